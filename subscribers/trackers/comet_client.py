"""How Comet's client is begun: without what it captures by itself, and only where it answers."""

from __future__ import annotations

import configparser
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .first_answer import why_no_answer

TRUE = ("1", "TRUE", "YES", "Y", "ON")
FALSE = ("0", "FALSE", "NO", "N", "OFF")


def import_comet() -> Any:
    """The package.

    Raises:
        ImportError: there is none.
    """
    return importlib.import_module("comet_ml")


def start_experiment(chosen: dict[str, Any], described: dict[str, Any], *, online: bool) -> Any:
    """An experiment of Comet's; one that was begun in this process before goes on."""
    comet_ml = import_comet()
    config: Any = importlib.import_module("comet_ml.config")

    # Comet ends the experiment that it last began in this process when another one begins.
    before, hook = config.get_global_experiment(), sys.excepthook
    config.set_global_experiment(None)
    try:
        return comet_ml.start(
            **chosen,
            online=online,
            experiment_config=comet_ml.ExperimentConfig(
                **described,
                log_code=False,
                log_graph=False,
                parse_args=False,
                log_git_patch=False,
                log_env_host=False,
                auto_output_logging=False,
                auto_param_logging=False,
                auto_metric_logging=False,
                auto_log_co2=False,
                display_summary_level=0,
            ),
        )
    finally:
        config.set_global_experiment(before)
        sys.excepthook = hook


def running_experiment() -> Any:
    """The experiment that the script has open in this process."""
    comet_ml = sys.modules.get("comet_ml")
    found = comet_ml.get_running_experiment() if comet_ml is not None else None
    return found if found is not None and found.alive and not found.ended else None


@contextlib.contextmanager
def nothing_captured() -> Iterator[None]:
    """For comet_ml's import, which puts itself into frameworks and into the exception hook."""
    name, hook = "COMET_DISABLE_AUTO_LOGGING", sys.excepthook
    before = os.environ.get(name)
    if "comet_ml" not in sys.modules:
        os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        sys.excepthook = hook
        if before is None:
            os.environ.pop(name, None)


def why_offline() -> str:
    """Why Comet's server cannot be reached; empty where it can."""
    return why_no_answer(str(import_comet().get_backend_address()), "health/ping")


def online_in_environment() -> bool | None:
    """What COMET_START_ONLINE says; None where it says nothing."""
    text = os.environ.get("COMET_START_ONLINE", "").upper()
    return False if text in FALSE else True if text in TRUE else None


def has_key() -> bool:
    """Whether Comet will find a key in its variable or where `comet login` has put it."""
    if os.environ.get("COMET_API_KEY"):
        return True
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if "COMET_API_KEY=" in Path(".env").read_text(encoding="utf-8"):
            return True
    places = (os.environ.get("COMET_CONFIG"), "./.comet.config", "~/.comet.config")
    for place in filter(None, places):
        path = Path(place).expanduser()
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
            parser.read(path / ".comet.config" if path.is_dir() else path)
            if parser.get("comet", "api_key", fallback=""):
                return True
    return False
