"""SwanLab's runs, of which it has one a process: what several of them at once need."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ...schemas import Artifact
from .artifact_file import file_of


class _Runs:
    """The runs that stepbus has open in this process.

    A run of SwanLab's that is open stands for the process: another one is refused, and the first to
    finish empties the config of the last. The methods of a run need none of that, so that it
    is put aside for the moment of opening and finishing.
    """

    def __init__(self) -> None:
        self._open: list[Any] = []
        self._lock = threading.Lock()

    def ours(self, run: Any) -> bool:
        """Whether stepbus opened it."""
        return any(run is other for other in self._open)

    def open(self, chosen: dict[str, Any]) -> Any:
        """Opens a run, beside those that are open.

        Raises:
            Exception: SwanLab's own, of a setting or of its server.
        """
        import swanlab

        hook = sys.excepthook
        with self._lock:
            _stand_for_the_process(None)
            try:
                run = swanlab.init(**chosen)
            finally:
                sys.excepthook = hook
            self._open.append(run)
        return run

    def finish(self, run: Any, state: Any, error: str | None) -> None:
        """Finishes a run; the others stay as they are."""
        hook = sys.excepthook
        with self._lock:
            _stand_for_the_process(run)
            try:
                run.finish(state=state, error=error)
            finally:
                sys.excepthook = hook
                self._open = [other for other in self._open if other is not run]
                _stand_for_the_process(self._open[-1] if self._open else None)


RUNS = _Runs()


def _stand_for_the_process(run: Any) -> None:
    from swanlab.sdk.internal import run as runs
    from swanlab.sdk.internal.run.components import config

    runs._current_run = run
    config._active_run_config = run.config if run is not None else None


def ensure_flushed(run: Any) -> bool:
    """Has a run's file written; False while its thread has values that it has not looked at."""
    components, core = run._components, run._core
    waiting = not components.emitter.queue.empty()
    store = core._store
    if store is not None:
        with contextlib.suppress(AssertionError, ValueError):  # It is being closed.
            store.ensure_flushed()
    return not waiting


@contextlib.contextmanager
def media_of(event: Artifact) -> Iterator[Any]:
    """What `run.log` takes for a text, an image or a table, for the length of the block."""
    import swanlab

    if event.kind == "text":
        yield swanlab.Text(event.read_text())
    elif event.kind == "table":
        columns, rows = event.read_table()
        yield swanlab.echarts.Table().add(list(columns), [list(row) for row in rows])
    else:
        with file_of(event) as file:
            yield swanlab.Image(str(file))
