"""What Lightning logs, on the bus: the logger of a bridge."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .lightning_names import with_lightnings

if TYPE_CHECKING:
    from .lightning_runs import LightningRuns

FOLDER = "lightning_logs"
"""What Lightning calls the folder of its runs."""


class BusLogger:
    """Hands each call of `log_metrics` on to a bridge: `Trainer(logger=bridge.logger)`.

    Beside others, `logger=[TensorBoardLogger(...), bridge.logger]`. As the only one, or the first,
    it says where Lightning keeps the run: `<default_root_dir>/lightning_logs/version_<n>`, as
    Lightning's own loggers do.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(with_lightnings(cls, "loggers.logger.Logger"))

    def __init__(self, bridge: LightningRuns) -> None:
        super().__init__()
        self.bridge = bridge
        self.hyperparameters: dict[str, Any] = {}
        """What Lightning gave it to log."""
        self._version: int | None = None

    @property
    def save_dir(self) -> str | None:
        """The `default_root_dir` of the trainer; None until one has called."""
        return self.bridge.root

    @property
    def name(self) -> str:
        """The folder of the runs, below `save_dir`."""
        return FOLDER

    @property
    def version(self) -> int:
        """The number of the run's folder, the first that is free."""
        if self._version is None:
            found = _versions(Path(self.save_dir or ".") / FOLDER)
            if self.save_dir is None:
                return found
            self._version = found
        return self._version

    @property
    def log_dir(self) -> str | None:
        """The folder of the run."""
        root = self.save_dir
        return None if root is None else str(Path(root) / FOLDER / f"version_{self.version}")

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Becomes `log`, at this step."""
        self.bridge.logged(metrics, step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Keeps them for `train_begin`."""
        given = params if isinstance(params, Mapping) else vars(params)
        self.hyperparameters.update({str(name): value for name, value in given.items()})

    def finalize(self, status: str) -> None:
        """The last that Lightning calls, after a failure too."""
        self.bridge.finalized()


def _versions(folder: Path) -> int:
    found = [re.fullmatch(r"version_(\d+)", path.name) for path in folder.glob("version_*")]
    return max((int(match[1]) for match in found if match), default=-1) + 1
