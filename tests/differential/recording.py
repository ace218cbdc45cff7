"""What a callback sees in each hook, written down so that two trainers can be compared."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

HOOKS = (
    "init_end",
    "train_begin",
    "train_end",
    "epoch_begin",
    "epoch_end",
    "step_begin",
    "substep_end",
    "pre_optimizer_step",
    "optimizer_step",
    "step_end",
    "log",
    "evaluate",
    "prediction_step",
    "predict",
    "save",
)
FLAGS = (
    "should_log",
    "should_evaluate",
    "should_save",
    "should_epoch_stop",
    "should_training_stop",
)


@dataclasses.dataclass
class Call:
    """One hook's call, as the callback saw it on entry."""

    hook: str
    step: int
    epoch: float
    flags: str
    """Letters of the flags that are set: L(og) E(valuate) S(ave) e(poch stop) T(raining stop)."""
    keywords: list[str]
    """Names of the keyword arguments that are not None."""
    logs: dict[str, Any] | None
    metrics: dict[str, Any] | None
    state: dict[str, Any]
    """Everything else in the state; of the history, its length."""
    learning_rates: list[float]
    training: bool | None
    """Whether the model is in training mode."""
    gradients: str
    """A digest of the gradients; empty where there are none."""
    generators: str
    """A digest of the states of the random number generators."""
    checkpoint: dict[str, Any] | None = None
    """In `on_save`: what `trainer_state.json` says."""
    folders: list[str] | None = None
    """In `on_save`: the checkpoints that there are."""

    @property
    def line(self) -> str:
        """The call in short."""
        return f"{self.hook} step {self.step} epoch {self.epoch:.6g}"


def make_recorder(base: type, calls: list[Call], output_dir: Path) -> Any:
    """A callback of a library that writes every call down.

    Args:
        base: the library's `TrainerCallback`.
        calls: where to write.
        output_dir: of the run; paths in the state are taken relative to it.
    """

    def hook(name: str) -> Any:
        def method(self: Any, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            calls.append(record(name, state, control, keywords, output_dir))

        return method

    return type("Recorder", (base,), {f"on_{name}": hook(name) for name in HOOKS})()


def record(hook: str, state: Any, control: Any, keywords: dict[str, Any], root: Path) -> Call:
    """One call."""
    model, optimizer = keywords.get("model"), keywords.get("optimizer")
    call = Call(
        hook=hook,
        step=state.global_step,
        epoch=state.epoch,
        flags="".join(
            letter for letter, flag in zip("LESeT", FLAGS, strict=True) if getattr(control, flag)
        ),
        keywords=sorted(name for name, value in keywords.items() if value is not None),
        logs=copied(keywords.get("logs")),
        metrics=copied(keywords.get("metrics")),
        state=state_fields(state, root),
        learning_rates=[] if optimizer is None else rates(optimizer),
        training=None if model is None else model.training,
        gradients="" if model is None else digest_of_gradients(model),
        generators=digest_of_generators(),
    )
    if hook == "save":
        text = (root / f"checkpoint-{state.global_step}" / "trainer_state.json").read_text()
        call.checkpoint = relative(json.loads(text), root)
        call.folders = checkpoints(root)
    return call


def copied(values: Any) -> dict[str, Any] | None:
    """Logs or metrics as they are now."""
    return None if values is None else copy.deepcopy(dict(values))


def state_fields(state: Any, root: Path) -> dict[str, Any]:
    """What the state says, but for step, epoch and what is compared elsewhere."""
    names = {field.name for field in dataclasses.fields(state)}
    names -= {"global_step", "epoch", "log_history", "stateful_callbacks"}
    fields = {name: getattr(state, name) for name in sorted(names)}
    fields["rows"] = len(state.log_history)
    # The reference begins with an int and goes on with floats.
    fields["total_flos"] = float(state.total_flos)
    return relative(fields, root)  # type: ignore[no-any-return]


def relative(value: Any, root: Path) -> Any:
    """Nested values with paths below `root` relative to it."""
    if isinstance(value, dict):
        return {key: relative(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [relative(item, root) for item in value]
    if isinstance(value, str) and value.startswith(str(root)):
        return str(Path(value).relative_to(root))
    return value


def checkpoints(root: Path) -> list[str]:
    """Names of the checkpoint folders, by step."""
    found = (path.name for path in root.glob("checkpoint-*"))
    return sorted(found, key=lambda name: int(name.removeprefix("checkpoint-")))


def rates(optimizer: Any) -> list[float]:
    """The learning rate of each group of parameters."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def digest(parts: list[bytes]) -> str:
    """A short digest."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:8] if parts else ""


def bytes_of(tensor: torch.Tensor) -> bytes:
    """The memory of a tensor of any type."""
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes())


def digest_of_gradients(model: torch.nn.Module) -> str:
    """One for all gradients that there are."""
    return digest([bytes_of(p.grad) for p in model.parameters() if p.grad is not None])


def digest_of_generators() -> str:
    """One for the global generators of Python, numpy and torch."""
    numpy_state = np.random.get_state(legacy=True)
    return digest(
        [
            repr(random.getstate()).encode(),
            repr((numpy_state[1].tobytes(), numpy_state[2:])).encode(),  # type: ignore[index]
            bytes_of(torch.get_rng_state()),
        ]
    )
