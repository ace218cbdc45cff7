"""Checkpoints that are uploaded at the end of a training, held until then."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ...schemas import Save


class KeptCheckpoints:
    """The last and the best checkpoint of a training, held by their leases.

    Args:
        holder: who holds them, for the ledger.
    """

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self._kept: dict[str, tuple[Save, contextlib.ExitStack]] = {}

    def keep(self, event: Save) -> None:
        """Holds a checkpoint as the last, or the best, in the place of the one before."""
        which = "best" if event.best else "last"
        self._let_go(which)
        held = contextlib.ExitStack()
        lease = getattr(event, "lease", None)
        if lease is not None:
            held.enter_context(lease.hold(self._holder))
        self._kept[which] = (event, held)

    def let_go(self) -> None:
        """Lets rotation have them."""
        for which in list(self._kept):
            self._let_go(which)

    def chosen(self, output_dir: Path, *, best: bool) -> Path | None:
        """The folder of the checkpoint that a training ended with.

        Args:
            output_dir: where checkpoints of an earlier attempt are, if this one saved none.
            best: the best is loaded at the end, and is preferred.

        Returns:
            None where there is no checkpoint.
        """
        if best and "best" in self._kept:
            return Path(self._kept["best"][0].path)
        if self._kept:
            return Path(max((save for save, _ in self._kept.values()), key=_step_of).path)
        folders = [path for path in output_dir.glob("checkpoint-*") if path.is_dir()]
        return max(folders, key=lambda path: path.stat().st_mtime, default=None)

    def _let_go(self, which: str) -> None:
        _, held = self._kept.pop(which, (None, contextlib.ExitStack()))
        held.close()


def _step_of(event: Save) -> int:
    return event.step
