"""Trainers of either library around tiny language models, and what came of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.differential.libraries import Library

NUM_TOKENS = 20
"""Ordinary ones; those below are special."""
NUM_SPECIAL = 5
LENGTH = 10


def sentences(count: int, seed: int) -> list[list[int]]:
    """Tokens, each of which tells much of the next."""
    source = random.Random(seed)
    rows = []
    for _ in range(count):
        row = [source.randrange(NUM_TOKENS)]
        while len(row) < LENGTH:
            row.append((row[-1] * 3 + source.choice([1, 1, 1, 2])) % NUM_TOKENS)
        rows.append([token + NUM_SPECIAL for token in row])
    return rows


def stop_after(library: Library, step: int | None) -> list[Any]:
    """A callback that ends the training after a step; none without a step."""
    if step is None:
        return []
    stop_at: int = step

    class Stop(library.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == stop_at:
                control.should_training_stop = True

    return [Stop()]


def train(
    library: Library,
    folder: Path,
    make_model: Callable[[], Any],
    *,
    stop_at: int | None = None,
    resume_from: str | bool | None = None,
    given: dict[str, Any] | None = None,
    **fields: Any,
) -> Any:
    """Makes a trainer as a new process would and has it train; the trainer.

    Args:
        library: whose Trainer.
        folder: its output folder.
        make_model: makes the model, always the same one.
        stop_at: the step after which a callback stops it.
        resume_from: as `train` takes it.
        given: further arguments of the Trainer.
        fields: further training arguments.
    """
    library.set_seed(4)
    args = library.TrainingArguments(
        str(folder),
        **{
            "per_device_train_batch_size": 4,
            "num_train_epochs": 2,
            "learning_rate": 0.01,
            "logging_steps": 2,
            "save_steps": 2,
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **fields,
        },
    )
    trainer = library.Trainer(
        model=make_model(), args=args, callbacks=stop_after(library, stop_at), **(given or {})
    )
    trainer.train(resume_from_checkpoint=resume_from)
    return trainer


def weights(trainer: Any) -> dict[str, bytes]:
    """The bits of what was trained, by name."""
    return {
        name: parameter.detach().numpy().tobytes()
        for name, parameter in trainer.model.named_parameters()
        if parameter.requires_grad
    }


def saved_weights(folder: Path, file: str) -> dict[str, bytes]:
    """The bits of the weights in a file, by name."""
    tensors: dict[str, torch.Tensor] = load_file(folder / file)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def history(trainer: Any) -> list[dict[str, Any]]:
    """The rows of the log, without what is a time; the closing one belongs to the call alone."""
    times = ("_runtime", "_per_second")
    rows = [row for row in trainer.state.log_history if "train_runtime" not in row]
    return [{k: v for k, v in row.items() if not k.endswith(times)} for row in rows]
