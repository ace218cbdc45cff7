"""The thread that feeds subscribers in other processes, and hears what they say."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .messages import encode
from .sidecar import Sidecar, working_folder

if TYPE_CHECKING:
    from ..process_worker import ProcessWorker

RunKey = tuple[str, int, int]
LOOK_S = 0.2
"""Between two looks at whether the processes live."""
SOON_S = 0.01
"""The same while one of them ends or is about to start."""
REST_S = 0.0002
"""How long it lets go of the interpreter lock between two batches."""


class Feeder:
    """Feeds all processes of one bus from one thread, which alone ever waits for a pipe.

    Args:
        runs: the runs that are open: run, attempt and rank.
    """

    def __init__(self, runs: Iterable[RunKey] = ()) -> None:
        self._sidecars: list[Sidecar] = []
        self._shared: Sidecar | None = None
        self._new: deque[ProcessWorker] = deque()
        self._news: deque[bytes] = deque()
        self._runs: dict[RunKey, bytes] = {run: _news(*run, is_open=True) for run in runs}
        self._folder = working_folder()
        self.hurried = False
        """Whether new processes may take the trainer's time: it waits for them."""
        self._ending = False
        self._kill = False
        self._woken = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._run, name="stepbus-feeder", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def add(self, worker: ProcessWorker) -> None:
        """Serves a subscriber, in the shared process or in one of its own."""
        self._new.append(worker)
        self.wake()

    def step_back(self) -> None:
        """Has all processes leave the processor to the training."""
        self.hurried = False
        self.wake()

    def note_run(self, run_id: str, attempt: int, rank: int, *, is_open: bool) -> None:
        """Tells the processes of a run, which they close as killed if this process dies."""
        news = _news(run_id, attempt, rank, is_open=is_open)
        if is_open:
            self._runs[run_id, attempt, rank] = news
        else:
            self._runs.pop((run_id, attempt, rank), None)
        self._news.append(news)
        self.wake()

    def wake(self) -> None:
        """Has the thread look now; from any thread, never waits."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):
                os.write(self._wake_write, b"!")

    def end(self, deadline: float) -> None:
        """Lets processes without subscribers end, until the deadline (monotonic, s)."""
        self._ending = True
        self.wake()
        self._thread.join(max(0.1, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._kill = True
            self.wake()
            self._thread.join(LOOK_S * 10)

    @property
    def descriptors(self) -> list[int]:
        """Its ends of all pipes."""
        running = [sidecar.process for sidecar in self._sidecars if sidecar.process is not None]
        ends = [end for process in running for end in process.descriptors]
        return [self._wake_read, self._wake_write, *ends]

    def make_inert(self) -> None:
        """Closes all pipes in a forked child. Takes no lock."""
        for sidecar in list(self._sidecars):
            sidecar.make_inert()
        self._close_wake()

    def _close_wake(self) -> None:
        for descriptor in (self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _run(self) -> None:
        while True:
            self._admit()
            more = False
            for sidecar in list(self._sidecars):
                if self._kill:
                    sidecar.kill()
                else:
                    if not self.hurried:
                        sidecar.step_back()
                    more |= sidecar.tend()
            self._sidecars = [sidecar for sidecar in self._sidecars if not sidecar.over]
            if self._ending and not self._sidecars and not self._new:
                self._close_wake()
                return
            if more:
                time.sleep(REST_S)
            else:
                self._wait()

    def _admit(self) -> None:
        while self._new:
            worker = self._new.popleft()
            sidecar = self._shared
            if worker.subscription.options.own:
                self._serve_alone(worker)
                continue
            if sidecar is None or sidecar.leaving:
                sidecar = self._shared = self._new_sidecar()
            sidecar.add(worker)
        while self._news:
            news = self._news.popleft()
            for sidecar in self._sidecars:
                sidecar.tell(news)

    def _serve_alone(self, worker: ProcessWorker) -> None:
        self._new_sidecar().add(worker)

    def _new_sidecar(self) -> Sidecar:
        sidecar = Sidecar(
            self._folder,
            runs=lambda: list(self._runs.values()),
            move=self._serve_alone,
        )
        sidecar.hurried = self.hurried
        self._sidecars.append(sidecar)
        return sidecar

    def _wait(self) -> None:
        waiting = select.poll()
        waiting.register(self._wake_read, select.POLLIN)
        look_s = LOOK_S
        for sidecar in self._sidecars:
            process = sidecar.process
            if process is None:
                look_s = min(look_s, SOON_S)
            elif process.silent:
                look_s = SOON_S
            else:
                feed, back = process.descriptors
                waiting.register(back, select.POLLIN)
                if process.writing:
                    waiting.register(feed, select.POLLOUT)
        waiting.poll(look_s * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 64)
        # Who wakes it from here on comes before the look that follows.
        self._woken = False


def _news(run_id: str, attempt: int, rank: int, *, is_open: bool) -> bytes:
    return encode("run", run_id=run_id, attempt=attempt, rank=rank, open=is_open)
