"""Two independent ways to see that the host waits for a CUDA device; both of one thread alone."""

from __future__ import annotations

import contextlib
import json
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

WAITING = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
"""Calls of CUDA's runtime that wait; `cudaMemcpyAsync` is none of them."""


class Reported:
    """What torch's sync debug mode reports of the thread that made this, while it looks.

    The mode is one for the process, and stepbus's own thread may wait. It sees `item()`, blocking
    copies and `Stream.synchronize()`; events, `torch.cuda.synchronize()` and copies into pageable
    memory escape it, which is what `waits_of` is for.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.looks = False
        self._thread = threading.get_ident()

    def note(self, message: Any, *_: Any, **__: Any) -> None:
        """Stands where warnings are shown."""
        own = threading.get_ident() == self._thread
        if own and self.looks and "synchronizing" in str(message):
            stack = "".join(traceback.format_stack(limit=12))
            self.calls.append(f"{message}\n{stack}")

    @contextlib.contextmanager
    def look(self) -> Iterator[None]:
        """Notes what happens within a with block."""
        self.looks = True
        try:
            yield
        finally:
            self.looks = False


@contextlib.contextmanager
def reported() -> Iterator[Reported]:
    """Arms the mode for a with block, and makes sure that it sees a wait."""
    found = Reported()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = found.note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with found.look():
                torch.ones((), device="cuda").item()
            assert len(found.calls) == 1, "the check sees what waits"
            found.calls.clear()
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")


def waits_of(profiler: torch.profiler.profile, mark: str, folder: Path) -> list[str]:
    """Waiting calls, and copies into pageable memory, between a mark's beginning and its end.

    Args:
        profiler: has ended; with the activities of CPU and CUDA.
        mark: name of the `record_function` around the steps, in the thread that is looked at.
        folder: where its trace may be written.
    """
    trace = folder / "trace.json"
    profiler.export_chrome_trace(str(trace))
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("ph") == "X"]
    (region,) = [e for e in events if e["name"] == mark and e["cat"] == "user_annotation"]
    start, end = region["ts"], region["ts"] + region["dur"]
    found = []
    for event in events:
        if not start <= event["ts"] <= end:
            continue
        name, own = event["name"], event.get("tid") == region["tid"]
        if own and event["cat"] in ("cuda_runtime", "cuda_driver") and name in WAITING:
            found.append(name)
        if "Memcpy DtoH" in name and "Pageable" in name:
            found.append(name)
    return found
