"""The trackers of the comparison: which are installed, and how they are kept offline."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

FOUR = ("tensorboard", "wandb", "mlflow", "codecarbon")
OTHERS = ("clearml", "comet_ml", "dvclive", "swanlab", "trackio")
"""Further ones that stepbus has and that need no server."""

PEERS_HAVE: dict[str, tuple[str, ...]] = {
    "transformers": FOUR,
    "lightning": ("tensorboard", "wandb", "mlflow"),
    "ignite": ("tensorboard", "wandb", "mlflow"),
}
"""Trackers that an engine logs to by its own means."""


def installed(names: Sequence[str] = FOUR) -> list[str]:
    """Those that can be imported here; not imported."""
    return [name for name in names if importlib.util.find_spec(name) is not None]


def stepbus_trackers() -> tuple[str, ...]:
    """Those of the four that stepbus has a subscriber for."""
    from stepbus.bus.registry import Registry

    registry = Registry()
    return tuple(name for name in FOUR if name in registry.names())


def all_of_stepbus() -> tuple[str, ...]:
    """All that stepbus has a subscriber for, that need no server, and that are installed."""
    from stepbus.bus.registry import Registry

    known = Registry().names()
    return tuple(installed([name for name in (*FOUR, *OTHERS) if name in known]))


def offline(folder: Path) -> None:
    """Sets the environment so that every tracker writes below `folder` and asks no server."""
    database = folder / "mlflow.db"
    os.environ |= {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_CACHE_DIR": str(folder / "wandb-cache"),
        "WANDB_DATA_DIR": str(folder / "wandb-data"),
        "WANDB_CONFIG_DIR": str(folder / "wandb-config"),
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{database}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "CODECARBON_LOG_LEVEL": "error",
        "CODECARBON_ALLOW_MULTIPLE_RUNS": "true",
        "CODECARBON_SAVE_TO_API": "false",
        "CODECARBON_COUNTRY_ISO_CODE": "DEU",
        "COMET_START_ONLINE": "0",
        "CLEARML_OFFLINE_MODE": "1",
        "SWANLAB_MODE": "offline",
        "TRACKIO_DIR": str(folder / "trackio"),
    }
    for name in ("STEPBUS_REPORT_TO", "COMET_MODE"):
        os.environ.pop(name, None)


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Works in `folder`: some trackers write where they are."""
    with contextlib.chdir(folder):
        yield
