"""Votes as files: `RUN_DIR/votes/*.json`, or an empty file named after the action.

The pump looks once a second. What was read is moved to `votes/done/`, with the verdict in it once
there is one. No port and no extra is needed to steer a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..schemas import ACTIONS, Vote
from ..schemas.errors import ArgumentError
from .control_channel import Settle
from .diagnostics import get_logger

log = get_logger()

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
        os.replace(aside, folder / name)
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
        done = self._folder / "done" / (path.name if path.suffix else f"{path.name}-{uuid.uuid4().hex[:8]}.json")
        try:
            vote = self._read(path)
            done.parent.mkdir(exist_ok=True)
            os.replace(path, done)
        except OSError as error:
            log.warning(f"the vote file {path} could not be taken ({error}); it is looked at again")
            return
        except (ValueError, TypeError) as error:
            message = f"not a vote: {error}"
            log.warning(f"{path.name} is {message}")
            with contextlib.suppress(OSError):
                done.parent.mkdir(exist_ok=True)
                os.replace(path, done)
            _write(done, {"verdict": {"outcome": "refused", "detail": message}})
            return
        record = vote.model_dump(mode="json", exclude_defaults=True)

        def settle(verdict: dict[str, Any]) -> None:
            _write(done, {**record, "verdict": verdict})

        _write(done, record)
        self._post(vote, settle)

    def _read(self, path: Path) -> Vote:
        text = path.read_text(encoding="utf-8").strip()
        fields = json.loads(text) if text else {}
        if not isinstance(fields, dict):
            raise TypeError(f"a vote is a JSON object, not {text[:80]!r}")
        if path.name in ACTIONS:
            fields.setdefault("action", path.name)
        fields.setdefault("voter", f"file:{path.stem}")
        fields.pop("critical", None)
        return Vote(**fields)


def _write(path: Path, content: dict[str, Any]) -> None:
    aside = path.with_name(f".{path.name}")
    try:
        aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        log.warning(f"the verdict could not be written to {path} ({error})")
