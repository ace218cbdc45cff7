"""Deletes old checkpoints by the rule of save_total_limit."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from .aside import aside, discard
from .layout import list_checkpoints


@dataclass(frozen=True)
class Rotation:
    """What a rotation did; each by step, the oldest first."""

    deleted: tuple[Path, ...] = ()
    deferred: tuple[Path, ...] = ()
    """Somebody still reads these: a later rotation deletes them."""
    failed: tuple[tuple[Path, OSError], ...] = ()
    """These could not be moved away; a later rotation tries again."""


def _nobody_reads(_: Path) -> bool:
    return False


def rotate(
    output_dir: str | os.PathLike[str],
    limit: int | None,
    *,
    protected: Collection[str | os.PathLike[str]] = (),
    leased: Callable[[Path], bool] = _nobody_reads,
) -> Rotation:
    """Deletes whole checkpoints, oldest step first, until `limit` are left.

    The newest and those in `protected` (the best one) always stay, so that more than `limit` may
    be left. No limit, or one below 1, keeps all. Folders that are no whole checkpoint of stepbus
    neither count nor are touched.
    """
    if limit is None or limit < 1:
        return Rotation()
    deleted, deferred, failed = [], [], []
    for checkpoint in _surplus(list_checkpoints(output_dir), limit, protected):
        if leased(checkpoint):
            deferred.append(checkpoint)
            continue
        try:
            _delete(checkpoint)
        except OSError as error:
            failed.append((checkpoint, error))
        else:
            deleted.append(checkpoint)
    return Rotation(tuple(deleted), tuple(deferred), tuple(failed))


def _surplus(
    checkpoints: list[Path], limit: int, protected: Collection[str | os.PathLike[str]]
) -> list[Path]:
    kept = {Path(path).resolve() for path in protected}
    kept.update(path.resolve() for path in checkpoints[-1:])
    free = [path for path in checkpoints if path.resolve() not in kept]
    num_kept = len(checkpoints) - len(free)
    return free[: max(0, len(checkpoints) - max(limit, num_kept))]


def _delete(checkpoint: Path) -> None:
    """Renames first: a deletion that is cut off leaves nothing that looks like a checkpoint."""
    doomed = aside(checkpoint, "deleted")
    discard(doomed)
    checkpoint.rename(doomed)
    discard(doomed)
