"""What the front ends of a run do each in their own way; here, the hand-written loop's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .checkpoint import Checkpoint
from .checkpoint.model_files import load_model_files
from .checkpoint.model_state import load_model_state, model_state
from .log_window import LogWindow

if TYPE_CHECKING:
    from .evaluating import Evaluate
    from .working import Working


class FrontEnd:
    """The ways of a hand-written loop; the `Trainer` has others.

    A run asks its front end wherever the two differ, and does all else by itself.
    """

    trains = True
    """Whether the run is a training, for which votes that were cast before it wait."""
    announces_optimizer = False
    """Whether it announces the optimizer's steps itself, so that no hooks are needed."""
    announces_itself = True
    """Whether `init_end` is for the callbacks too, or they have had it already."""
    lends_generator = True
    """Whether loaders and samplers without a generator get one of the run's for its length."""
    evaluates_neutrally = True
    """Whether scheduled evaluations, too, leave the random numbers as they were."""
    ends_by_schedule = False
    """Whether nothing but the schedule ends the run at its last step, so that callbacks can have it
    go on to the end of its epochs."""
    rounds_epochs = True
    """Whether `state.epoch` is whole when an epoch begins after one that was left early."""
    gives_learning_rate = False
    """Whether it tells the rate of a step itself, so that it is not looked up when one begins."""
    sees_flags_in_logs = False
    """Whether `log` leads to code of the user's, which may look at the control."""
    sees_groups = False
    """Whether `group_loaded` is to be called."""
    counts_samples = True
    """Whether the run counts what it trains on, for the closing figures."""
    keeps_modes = True
    """Whether an evaluation leaves the modules in the modes, training or not, that they were in."""
    best_step_needs_saves = False
    """Whether the state names the best step only where checkpoints are written."""
    train_batch_size: int | None = None
    """Samples in a micro-batch, where it is another than the arguments'."""

    def __init__(self, evaluate: Evaluate | None = None) -> None:
        self._evaluate = evaluate
        self.working: Working
        """The parts of the run, once it is open."""

    @property
    def evaluates(self) -> bool:
        """Whether it has the means to evaluate."""
        return self._evaluate is not None

    def evaluate(self) -> Mapping[str, Any]:
        """Evaluates, logs and announces; the metrics by name."""
        assert self._evaluate is not None
        return self.working.evaluating.measure(self._evaluate)

    def evaluated(self, metrics: Mapping[str, Any]) -> None:
        """Hears of each evaluation but the one before the first step."""

    def log(self, logs: dict[str, Any]) -> None:
        """Logs what a log round gave."""
        self.working.acting.emit_log(logs)

    def make_window(self) -> LogWindow:
        """Where the run keeps what has been measured since the last log."""
        return LogWindow()

    def closing_figures(
        self, figures: dict[str, Any], *, seconds: float, steps: int, waited_s: float
    ) -> dict[str, Any]:
        """The last log of a run.

        Args:
            figures: what the run proposes.
            seconds: since it began.
            steps: done by this attempt.
            waited_s: for subscribers, at its end.
        """
        return figures

    def group_loaded(self, group: list[Any]) -> None:
        """Sees the micro-batches of a step before the first is trained on."""

    def data_ended(self, epoch: int) -> str:
        """Why an epoch without any batch ends the run; empty where that is an error."""
        return ""

    def about_to_save(self) -> None:
        """Hears that a checkpoint is about to be written."""

    def model_writer(self) -> Callable[[Path], None] | None:
        """What writes the model's files into a checkpoint; None for its weights alone."""
        return None

    def stateful_callbacks(self) -> dict[str, Any]:
        """What `trainer_state.json` holds of the callbacks."""
        return {}

    def model_state(self, model: nn.Module) -> dict[str, Any]:
        """What an exact resume needs of the model."""
        return model_state(model)

    def load_model(self, checkpoint: Checkpoint, model: nn.Module) -> None:
        """Puts the weights of a checkpoint into the model.

        Raises:
            CheckpointError: they are of another model.
        """
        if "model" in checkpoint.states:
            load_model_state(model, checkpoint.states["model"], checkpoint.folder)
        else:
            load_model_files(checkpoint.folder, model)
