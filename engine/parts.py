"""What a checkpoint keeps of a run besides the weights, and how a resumed run gets it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from ..bus.diagnostics import get_logger
from ..schemas import TrainerState
from ..schemas.errors import ArgumentError, CheckpointError, StepbusError
from .callback_list import CallbackList
from .checkpoint import Checkpoint
from .data_order import DataOrder
from .front_end import FrontEnd
from .position import Position
from .rng import capture_rng
from .saving import STATE

log = get_logger()


class Stateful(Protocol):
    """Anything that a checkpoint can keep."""

    def state_dict(self) -> Any:
        """Its state, in tensors and plain values."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Takes back what `state_dict` gave."""


class Resumed(NamedTuple):
    """What a checkpoint holds for the loop."""

    folder: Path
    order: dict[str, Any]
    rng: dict[str, Any]
    attached: dict[str, Any]


class RunParts:
    """The parts of one run that checkpoints keep."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        lr_scheduler: Any,
        callbacks: CallbackList,
        front_end: FrontEnd,
    ) -> None:
        self._model = model
        self._front_end = front_end
        self._callbacks = callbacks
        self._fixed: dict[str, Stateful] = {}
        if optimizer is not None:
            self._fixed["optimizer"] = optimizer
        if lr_scheduler is not None:
            self._fixed["lr_scheduler"] = lr_scheduler
        self._attached: dict[str, Stateful] = {}
        self._resumed: Resumed | None = None
        self._begun = False
        self.window = front_end.make_window()
        self.position = Position()
        self.order: DataOrder | None = None
        self.leaves_epoch: Callable[[], bool] = lambda: False

    def attach(self, name: str, thing: Stateful) -> None:
        """Takes one more part, and gives it its state back on a resumed run."""
        if name in self._attached:
            raise ArgumentError(f"{name!r} is attached already: give another name.")
        if not (
            callable(getattr(thing, "state_dict", None))
            and callable(getattr(thing, "load_state_dict", None))
        ):
            raise ArgumentError(
                f"{thing!r} cannot be attached: it has no state_dict() and load_state_dict()."
            )
        if self._resumed is not None:
            if self._begun:
                raise StepbusError(
                    f"{name!r} is attached after the loop of a resumed run began: attach it before."
                )
            load_part(name, thing, self._resumed.attached, self._resumed.folder)
        self._attached[name] = thing

    def state_dict(self) -> dict[str, object]:
        """The parts by name."""
        parts: dict[str, object] = {
            "run": {
                "position": self.position.state_dict(left_early=self.leaves_epoch()),
                "window": self.window.state_dict(),
                "callbacks": self._callbacks.state_dict(),
                "order": self.order.state_dict() if self.order is not None else None,
            },
            "rng": capture_rng(),
            "attached": {name: thing.state_dict() for name, thing in self._attached.items()},
        }
        return parts | {name: thing.state_dict() for name, thing in self._fixed.items()}

    def restore(self, checkpoint: Checkpoint, state: TrainerState) -> None:
        """Gives all parts their state back, but for the data and the random numbers.

        Raises:
            CheckpointError: it is of another model, or of a run without one of the parts.
        """
        states, folder = checkpoint.states, checkpoint.folder
        saved = TrainerState.from_json(checkpoint.document(STATE), str(folder / STATE))
        self._front_end.load_model(checkpoint, self._model)
        for name, part in self._fixed.items():
            load_part(name, part, states, folder)
        run = states["run"]
        self.window.load_state_dict(run["window"])
        self.position.load_state_dict(run["position"])
        self._callbacks.load_state_dict(run["callbacks"])
        # The rest of the checkpoint, another copy of the weights among it, is let go of.
        self._resumed = Resumed(folder, run["order"], states["rng"], states["attached"])
        for name, thing in self._attached.items():
            load_part(name, thing, self._resumed.attached, folder)
        _adopt(saved, state)

    def begin(self) -> Resumed | None:
        """What the loop of a resumed run starts from; from here on nothing can be attached."""
        self._begun = True
        resumed = self._resumed
        if resumed is not None:
            missing = [name for name in resumed.attached if name not in self._attached]
            if missing:
                log.warning(
                    f"{resumed.folder} holds the state of {', '.join(missing)}, which nobody "
                    "attached: it is not restored"
                )
        return resumed


def load_part(name: str, target: Stateful, saved: Mapping[str, Any], source: Path) -> None:
    """Gives one part of a checkpoint back to its owner.

    Raises:
        CheckpointError: the checkpoint has no such part, or the owner does not take it.
    """
    if name not in saved:
        raise CheckpointError(
            f"{source} holds no state of {name!r}: it is of a run without one. Leave it out as "
            "that run did, or start a new run."
        )
    try:
        target.load_state_dict(saved[name])
    except Exception as error:
        raise CheckpointError(
            f"The state of {name!r} in {source} does not fit {type(target).__name__}: {error}. It "
            "is of another model or optimizer."
        ) from error


def _adopt(saved: TrainerState, state: TrainerState) -> None:
    for name, value in vars(saved).items():
        if not name.startswith("_"):
            setattr(state, name, value)
    best = state.best_model_checkpoint
    if best is not None and not Path(best).is_dir():
        state.best_model_checkpoint = None
