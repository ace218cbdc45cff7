"""How a task of ClearML's is made without its set-up of a process, and only where it answers."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from .first_answer import why_no_answer

TRUE = ("1", "TRUE", "YES", "Y", "ON", "T")
CACHE = "CLEARML_CACHE_DIR"


def import_clearml() -> Any:
    """The package.

    Raises:
        ImportError: there is none.
    """
    hook = sys.excepthook
    try:
        return importlib.import_module("clearml")
    finally:
        sys.excepthook = hook


def current_task() -> Any:
    """The task that the script has open in this process."""
    clearml = sys.modules.get("clearml")
    return clearml.Task.current_task() if clearml is not None else None


def made_task(project: str, name: str, folder: Path, *, is_chosen: bool) -> Any:
    """A task that is not its process's main one, of which ClearML has one in a process only.

    `Task.init` makes that; it forks, and installs handlers. `Task.create` is refused offline. Both
    call this constructor.

    Args:
        project: its project.
        name: its name.
        folder: of offline sessions.
        is_chosen: whether that goes before CLEARML_CACHE_DIR.
    """
    clearml = import_clearml()
    task_class: Any = clearml.Task
    with contextlib.ExitStack() as after:
        before = os.environ.get(CACHE)
        if task_class.is_offline() and (is_chosen or not before):
            os.environ[CACHE] = str(folder)
            after.callback(_put_back, before)
        task = task_class(
            private=task_class._Task__create_protection,
            project_name=project,
            task_name=name,
            task_type=task_class.TaskTypes.training,
            log_to_backend=True,
        )
        # ClearML keeps the folder that it finds when it is first asked for.
        task.get_offline_mode_folder()
    return task


def is_offline(given: bool | None) -> bool:
    """Whether sessions are to be written instead of a server being used."""
    if given is not None:
        return given
    return os.environ.get("CLEARML_OFFLINE_MODE", "").upper() in TRUE


def has_credentials() -> bool:
    """Whether ClearML will find a key in its variables, or a file of its settings."""
    names = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY")
    if all(os.environ.get(name) for name in names):
        return True
    places = (os.environ.get("CLEARML_CONFIG_FILE"), "~/clearml.conf", "~/.clearml.conf")
    for place in filter(None, places):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if "access_key" in Path(place).expanduser().read_text(encoding="utf-8"):
                return True
    return False


def why_offline() -> str:
    """Why ClearML's server cannot be reached; empty where it can."""
    session: Any = importlib.import_module("clearml.backend_api").Session
    return why_no_answer(str(session.get_api_server_host()), "debug.ping")


def _put_back(value: str | None) -> None:
    if value is None:
        os.environ.pop(CACHE, None)
    else:
        os.environ[CACHE] = value
