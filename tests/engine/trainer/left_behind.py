"""What the tests of endings share: what a process holds, data that breaks, a call at a step."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from stepbus import TrainerCallback
from tests.engine.trainer.conftest import Regression, samples


def open_files() -> set[str]:
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    found = {str(link.readlink()) for link in links if link.is_symlink()}
    return {name for name in found if not name.startswith(("pipe:", "/dev/shm/"))}


def what_lives() -> dict[str, Any]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": children,
        "files": open_files(),
        "frozen": gc.get_freeze_count(),
    }


@contextmanager
def nothing_left_behind(folder: Path) -> Iterator[None]:
    """After the block the process is as it was, and `folder` has nothing half-written."""
    gc.unfreeze()
    gc.collect()
    before = what_lives()
    yield
    now = what_lives()
    changed = {name: (before[name], now[name]) for name in now if now[name] != before[name]}
    assert not changed, changed
    hidden = {path.name for path in folder.rglob(".*")} - {".metadata"}  # a checkpoint's own
    assert not hidden, hidden


class AtStep(TrainerCallback):
    """Calls something once, when a step has ended."""

    def __init__(self, step: int, call: Callable[[], object]) -> None:
        self._step = step
        self._call = call

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.global_step == self._step:
            self._call()


class FailsAt(Regression):
    """Raises in the third batch that it trains on."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error
        self.calls = 0

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        self.calls += self.training
        if self.error is not None and self.calls == 3:
            raise self.error
        return super().forward(x, labels)


class Data:
    """Samples of which one breaks while it is loaded."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.samples = samples(48)
        self.error = error

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if self.error is not None and index == 17:
            raise self.error
        return self.samples[index]
