"""Votes as files: `RUN_DIR/votes/*.json`, or an empty file named after the action.

The pump looks once a second. What was read is moved to `votes/done/`, with the verdict in it once
there is one. No port and no extra is needed to steer a run.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..schemas import ACTIONS, Vote
from ..schemas.errors import ArgumentError
from .control_channel import Settle
from .diagnostics import get_logger

log = get_logger()

MOST_BYTES = 65_536
WRITTEN_WITHIN_S = 2.0
"""A file that cannot be read as a vote and is younger than this may not be whole yet."""

Post = Callable[[Vote, Settle], bool]


def votes_folder(run_dir: str | Path) -> Path:
    """Where the votes of a run are put."""
    return Path(run_dir) / "votes"


def write_vote_file(run_dir: str | Path, vote: Vote) -> Path:
    """Leaves a vote for the run in `run_dir`; the path at which its verdict will appear.

    Raises:
        ArgumentError: there is no such folder, or it cannot be written.
    """
    folder = votes_folder(run_dir)
    if not Path(run_dir).is_dir():
        raise ArgumentError(f"There is no run folder {str(run_dir)!r}: give the run's output_dir.")
    name = f"{uuid.uuid4().hex}.json"
    try:
        folder.mkdir(exist_ok=True)
        aside = folder / f".{name}"
        aside.write_text(vote.model_dump_json(exclude_defaults=True), encoding="utf-8")
        aside.replace(folder / name)
    except OSError as error:
        raise ArgumentError(f"{folder} cannot be written ({error}): no vote was cast.") from error
    return folder / "done" / name


class VoteFiles:
    """Reads the votes folder of one run."""

    def __init__(self, run_dir: Path, post: Post) -> None:
        self._folder = votes_folder(run_dir)
        self._post = post

    def look(self) -> None:
        """Casts the votes that have been put there since the last look."""
        try:
            entries = [entry for entry in os.scandir(self._folder) if entry.is_file()]
        except OSError:
            return
        for entry in sorted(entries, key=lambda found: found.name):
            if not entry.name.startswith("."):
                self._take(Path(entry.path))

    def _take(self, path: Path) -> None:
        if path.suffix != ".json" and path.name not in ACTIONS:
            return
        name = path.name if path.suffix else f"{path.name}-{uuid.uuid4().hex[:8]}.json"
        done = self._folder / "done" / name
        try:
            vote = self._read(path)
        except OSError as error:
            log.warning(f"the vote file {path} cannot be read ({error}); it is looked at again")
            return
        except Exception as error:
            if not _is_being_written(path) and self._move(path, done):
                log.warning(f"{path.name} is not a vote: {error}")
                _write(done, {"verdict": {"outcome": "refused", "detail": f"not a vote: {error}"}})
            return
        if not self._move(path, done):
            return
        record = vote.model_dump(mode="json", exclude_defaults=True)

        def settle(verdict: dict[str, Any]) -> None:
            _write(done, {**record, "verdict": verdict})

        _write(done, record)
        self._post(vote, settle)

    def _move(self, path: Path, done: Path) -> bool:
        try:
            done.parent.mkdir(exist_ok=True)
            path.replace(done)
        except OSError as error:
            # Not cast, since it would be cast again at each look.
            log.warning(f"the vote file {path} cannot be moved to {done} ({error})")
            return False
        return True

    def _read(self, path: Path) -> Vote:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8").strip()
        fields = json.loads(text) if text else {}
        if not isinstance(fields, dict):
            raise TypeError(f"a vote is a JSON object, not {text[:80]!r}")
        if path.name in ACTIONS:
            fields.setdefault("action", path.name)
        fields.setdefault("voter", f"file:{path.stem}")
        fields.pop("critical", None)
        return Vote(**fields)


def _is_being_written(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < WRITTEN_WITHIN_S
    except OSError:
        return True


def _write(path: Path, content: dict[str, Any]) -> None:
    aside = path.with_name(f".{path.name}")
    try:
        aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        log.warning(f"the verdict could not be written to {path} ({error})")
