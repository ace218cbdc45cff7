"""Which runs of wandb stepbus has open in a process."""

from __future__ import annotations

from typing import Any


class OpenRuns:
    """The runs that stepbus has open in this process, so that wandb's own process can be ended with
    the last one: only then are offline files known to be complete."""

    def __init__(self) -> None:
        self._open: list[Any] = []

    def ours(self, run: Any) -> bool:
        """Whether stepbus opened it."""
        return any(run is other for other in self._open)

    def opened(self, run: Any) -> None:
        """Notes a run."""
        self._open.append(run)

    def restart_service(self) -> bool:
        """Ends wandb's own process, which still holds a run that could not be opened; False where
        another run needs it."""
        import wandb

        if self._open or wandb.run is not None:
            return False
        wandb.teardown()
        return True

    def finished(self, run: Any) -> None:
        """Waits until wandb's process has written what it has, if no run needs it any more."""
        self._open = [other for other in self._open if other is not run]
        self.restart_service()


RUNS = OpenRuns()
"""Those of this process."""
