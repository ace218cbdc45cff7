"""What people write themselves: the handler called in the loop, or fed through a queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from torch import Tensor, nn

from stepbus.engine.bench.equal_work import Work
from stepbus.engine.bench.loops import StepWatch, raw

from .hostile_subscribers import burn, sleep

HANDLERS: dict[str, Callable[[], None]] = {"sleeps": sleep, "burns": burn}


def inline(work: Work, watch: StepWatch, *, handler: str) -> nn.Module:
    """The loop by hand, calling a handler at the end of each step."""
    handle = HANDLERS[handler]
    return raw(work, watch, end_step=lambda loss: handle())


def queue_and_thread(work: Work, watch: StepWatch, *, handler: str) -> nn.Module:
    """The loop by hand, putting each step's loss into a queue that a thread empties."""
    handle = HANDLERS[handler]
    queue: SimpleQueue[float | None] = SimpleQueue()
    leaving = threading.Event()

    def serve() -> None:
        while queue.get() is not None and not leaving.is_set():
            handle()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def put(loss: Tensor) -> None:
        queue.put(loss.item())

    try:
        return raw(work, watch, end_step=put)
    finally:
        watch.facts["waiting"] = queue.qsize()
        leaving.set()
        queue.put(None)
