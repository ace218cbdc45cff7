"""Which run this is and which attempt: the same run over all its resumes."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import NamedTuple

FILE = "run.json"


class RunIdentity(NamedTuple):
    """A run, and which start of it."""

    run_id: str
    attempt: int

    def to_json(self) -> str:
        """The text of `run.json`."""
        return json.dumps(self._asdict(), indent=2) + "\n"


def identify(output_dir: Path, checkpoint: str | None) -> RunIdentity:
    """A new run, or the next attempt of the one named by a checkpoint's `run.json`, its text."""
    if checkpoint is None:
        return RunIdentity(uuid.uuid4().hex[:12], 1)
    resumed = _parse(checkpoint)
    if resumed is None:
        return RunIdentity(uuid.uuid4().hex[:12], 1)
    last = read(output_dir)
    attempts = [resumed.attempt]
    if last is not None and last.run_id == resumed.run_id:
        attempts.append(last.attempt)
    return RunIdentity(resumed.run_id, max(attempts) + 1)


def record(output_dir: Path, identity: RunIdentity) -> None:
    """Writes `run.json` in the run's folder."""
    aside = output_dir / f".{FILE}"
    aside.write_text(identity.to_json(), encoding="utf-8")
    aside.replace(output_dir / FILE)


def read(folder: Path) -> RunIdentity | None:
    """The run that was last at work in a folder, or that wrote a checkpoint; None if unknown."""
    try:
        return _parse((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def _parse(text: str) -> RunIdentity | None:
    try:
        fields = json.loads(text)
        return RunIdentity(str(fields["run_id"]), int(fields["attempt"]))
    except (ValueError, KeyError, TypeError):
        return None
