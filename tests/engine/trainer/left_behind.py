"""What the tests of endings share: what a process holds, data that breaks, a call at a step."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from stepbus import TrainerCallback
from tests.engine.trainer.conftest import Regression, samples

OF_OTHERS = ("pymp-", "torchinductor")
"""Folders that Python and torch make once for the whole process."""


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
        "temporary": sorted(
            name for name in os.listdir(tempfile.gettempdir()) if not name.startswith(OF_OTHERS)
        ),
        "frozen": gc.get_freeze_count(),
    }


@contextmanager
def nothing_left_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After the block the process is as it was before; `folder` is for temporary files."""
    (folder / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "temporary"))
    gc.collect()
    before = what_lives()
    yield
    assert what_lives() == before
    assert not list(folder.rglob(".checkpoint-*"))


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
