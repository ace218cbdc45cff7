"""Which folder a run gets: a new one each time, unless one was asked for."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..schemas.errors import ArgumentError

_RUN = re.compile(r"run-([1-9][0-9]*)")


def new_run(base: str) -> str:
    """The folder after the last `run-N` in `base`; it is not made yet."""
    return str(Path(base) / f"run-{max(_numbers(base), default=0) + 1}")


def last_run(base: str) -> str:
    """The last `run-N` in `base`.

    Raises:
        ArgumentError: there is none.
    """
    numbers = _numbers(base)
    if not numbers:
        raise ArgumentError(
            f"There is no run to resume in {base}: start one without --resume, or name its folder "
            "with --output-dir."
        )
    return str(Path(base) / f"run-{max(numbers)}")


def refuse_used(folder: str) -> None:
    """Refuses a folder that holds checkpoints of another run.

    Raises:
        ArgumentError: it does.
    """
    checkpoints = sorted(path.name for path in Path(folder).glob("checkpoint-*"))
    if checkpoints:
        raise ArgumentError(
            f"{folder} holds a run already ({checkpoints[-1]}): add --resume to go on with it, or "
            "give another --output-dir."
        )


def last_attempt(folder: Path) -> tuple[str, int] | None:
    """The run that was last started in a folder, and which start of it; None where unknown."""
    try:
        fields = json.loads((folder / "run.json").read_bytes())
        return str(fields["run_id"]), int(fields["attempt"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _numbers(base: str) -> list[int]:
    try:
        names = [path.name for path in Path(base).iterdir()]
    except OSError:
        return []
    return [int(match[1]) for name in names if (match := _RUN.fullmatch(name))]
