"""What a tracker remembers of its runs in their folder: for resumes, and for its replacement."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...bus.diagnostics import get_logger
from ...schemas import Event

log = get_logger()

FOLDER = "trackers"
"""In the run's folder; one file for each tracker."""
PLACE_BYTES = 96


class KnownRuns:
    """Where one tracker has the runs of an output folder, and what it has been handed of them.

    A folder that cannot be written costs resumes their place, never the run: it is said once.

    Args:
        output_dir: the folder of the runs.
        tracker: the tracker's name.
    """

    def __init__(self, output_dir: Path, tracker: str) -> None:
        self._path = output_dir / FOLDER / f"{tracker}.json"
        self._tracker = tracker
        self._place: int | None = None
        self._said = False

    def where(self, run_id: str) -> dict[str, str]:
        """Its id, url and folder in the tracker; empty where it never had it."""
        found = self._read().get(run_id, {}).get("where", {})
        return {str(name): str(value) for name, value in found.items()}

    def params(self, run_id: str) -> dict[str, Any]:
        """The parameters that the tracker has of it."""
        return dict(self._read().get(run_id, {}).get("params", {}))

    def remember(self, run_id: str, **facts: Mapping[str, Any]) -> None:
        """Writes facts of a run: `where`, `params`."""
        runs = self._read()
        runs[run_id] = {**runs.get(run_id, {}), **{k: dict(v) for k, v in facts.items()}}
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with self._saying_so():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(runs, indent=1, default=str) + "\n", encoding="utf-8")
            aside.replace(self._path)

    def handed_on(self, event: Event) -> None:
        """Notes the newest event that the tracker has; survives the death of the process."""
        if event.seq < 0:
            return
        text = f"{event.run_id} {event.attempt} {event.seq}".ljust(PLACE_BYTES - 1) + "\n"
        with self._saying_so():
            if self._place is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                path = self._path.with_suffix(".place")
                self._place = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            os.pwrite(self._place, text.encode(), 0)

    def newest(self, event: Event) -> int:
        """The number of the newest event of that event's run and attempt that the tracker has;
        -1 where it has none."""
        try:
            words = self._path.with_suffix(".place").read_text(encoding="utf-8").split()
            run_id, attempt, seq = words[0], int(words[1]), int(words[2])
        except (OSError, ValueError, IndexError):
            return -1
        return seq if (run_id, attempt) == (event.run_id, event.attempt) else -1

    def close(self) -> None:
        """Lets go of its files."""
        place, self._place = self._place, None
        if place is not None:
            os.close(place)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @contextlib.contextmanager
    def _saying_so(self) -> Any:
        try:
            yield
        except OSError as error:
            if not self._said:
                self._said = True
                log.warning(
                    f"{self._tracker}: {self._path.parent} cannot be written ({error}): a resumed "
                    "run may get another place in the tracker."
                )
