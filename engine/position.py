"""Where in the data a run is."""

from __future__ import annotations

from typing import Any


class Position:
    """Where in the data a run is; part of every checkpoint."""

    def __init__(self) -> None:
        self.epoch = 0
        self.step_in_epoch = 0
        self.micro_batches = 0
        """Trained on in this epoch."""
        self.epoch_ended = False
        self.left_early = False
        """In a checkpoint: the votes to leave the epoch had been cast when it was written."""

    def begin_next_epoch(self) -> None:
        """Goes to the start of the next epoch."""
        self.epoch += 1
        self.step_in_epoch = self.micro_batches = 0
        self.epoch_ended = self.left_early = False

    def state_dict(self, *, left_early: bool) -> dict[str, Any]:
        """The position for a checkpoint."""
        return vars(self) | {"left_early": left_early}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        for name in vars(self):
            setattr(self, name, state[name])
