"""One process and the subscribers that it serves; replaced when it dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ...schemas.errors import DeliveryError
from ..diagnostics import get_logger
from .deaths import MOST_TIMED_OUT, Deaths, is_crash, most_in_a_row
from .messages import Message, encode
from .spawned import Spawned, how_it_ended

if TYPE_CHECKING:
    from ..process_worker import ProcessWorker

log = get_logger()

LEAVES_WITHIN_S = 5.0
"""How long a process that has nothing more to do may take to end by itself."""


class Sidecar:
    """A process for some subscribers; used by the feeder's thread.

    Args:
        folder: its working directory.
        runs: gives a message for each run that is open.
        move: has a subscriber served by a process of its own.
    """

    def __init__(
        self,
        folder: str | None,
        runs: Callable[[], Iterable[bytes]],
        move: Callable[[ProcessWorker], None],
    ) -> None:
        self.workers: dict[int, ProcessWorker] = {}
        self.process: Spawned | None = None
        self.hurried = False
        """Whether a process that is started now may take the trainer's time: it waits for it."""
        self.over = False
        """Whether it is of no use any more."""
        self._folder = folder
        self._runs = runs
        self._move = move
        self._deaths = Deaths()
        self._leaves_by: float | None = None
        self._start_at = 0.0

    @property
    def leaving(self) -> bool:
        """Whether it takes nobody else."""
        return self.over or self._leaves_by is not None

    def add(self, worker: ProcessWorker) -> None:
        """Serves another subscriber."""
        self.workers[worker.number] = worker
        if self.process is not None:
            self.process.write(worker.opening(self.process.histories))

    def tell(self, news: bytes) -> None:
        """Tells the process that a run was opened or closed."""
        if self.process is not None:
            self.process.write(news)

    def tend(self) -> bool:
        """Starts, feeds and hears the process; True where there is more to send at once."""
        if any(worker.unwanted for worker in self.workers.values()):
            self.kill()
            return False
        process = self.process or self._start()
        if process is None:
            return False
        status = process.exit_status()
        for message in process.read():
            self._hear(message)
        self._forget_finished()
        if status is not None:
            self._ended(process, status)
            return False
        if self._leave_behind(process):
            self.kill()
            return False
        if not self.workers:
            self._let_leave(process)
        process.flush()
        for worker in self.workers.values():
            if process.has_room:
                lines = worker.next_lines()
                if lines:
                    process.write(lines)
        return process.has_room and any(worker.has_more for worker in self.workers.values())

    def step_back(self) -> None:
        """Leaves the processor to the training."""
        if self.hurried:
            self.hurried = False
            if self.process is not None:
                self.process.step_back()

    def kill(self) -> None:
        """Ends the process at once; whoever is still served by it is left with what they had."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            for message in process.read():
                self._hear(message)
            process.let_go_of_pipes()
        for worker in self.workers.values():
            worker.finish()
        self.workers = {}
        self.over = True

    def make_inert(self) -> None:
        """Closes the pipes in a forked child."""
        if self.process is not None:
            self.process.make_inert()

    def _start(self) -> Spawned | None:
        if not self.workers:
            self.over = True
            return None
        if time.monotonic() < self._start_at:
            return None
        try:
            process = self.process = Spawned(self._folder, hurried=self.hurried)
        except DeliveryError as error:
            self._give_up_all(str(error))
            return None
        for news in self._runs():
            process.write(news)
        for worker in self.workers.values():
            process.write(worker.opening(process.histories))
        return process

    def _give_up_all(self, why: str) -> None:
        for worker in self.workers.values():
            worker.give_up(why)
        self.workers = {}
        self.over = True

    def _hear(self, message: Message) -> None:
        if message["kind"] == "say":
            log.log(message["level"], message["text"])
            return
        worker = self.workers.get(message["of"])
        if worker is not None:
            worker.hear(message)

    def _forget_finished(self) -> None:
        for number in [n for n, worker in self.workers.items() if worker.finished.is_set()]:
            del self.workers[number]

    def _leave_behind(self, process: Spawned) -> bool:
        """Parts with those that do not return; True where nobody else is served here."""
        late = [w for w in self.workers.values() if w.is_left or w.timed_out]
        for worker in late:
            del self.workers[worker.number]
            if worker.is_left:
                process.write(encode("leave", to=worker.number))
                worker.finish()
            elif worker.may_start_again:
                worker.outlived_process()
                self._move(worker)
            else:
                worker.give_up(f"{worker.timed_out}, for the last time of {MOST_TIMED_OUT + 1}")
        return bool(late) and not self.workers

    def _let_leave(self, process: Spawned) -> None:
        now = time.monotonic()
        if self._leaves_by is None:
            self._leaves_by = now + LEAVES_WITHIN_S
            process.write(encode("end"))
        elif now > self._leaves_by:
            self.kill()

    def _ended(self, process: Spawned, status: int) -> None:
        process.let_go_of_pipes()
        self.process = None
        if not self.workers:
            self.over = True
            return
        self._start_at = time.monotonic() + self._deaths.count(time.monotonic() - process.started_s)
        served, self.workers = self.workers, {}
        how = how_it_ended(status)
        names = ", ".join(worker.subscription.name for worker in served.values())
        log.error(
            f"the process {process.pid} of {names} {how}: another one goes on where they were"
        )
        for number, worker in served.items():
            in_a_row = worker.outlived_process()
            if self._deaths.too_many or in_a_row > most_in_a_row(status):
                worker.give_up(f"its process {how}, {in_a_row} times in a row before it got on")
            elif worker.abandoned or worker.handling.account.quarantined:
                worker.finish()
            elif in_a_row and is_crash(status) and len(served) > 1:
                # Who it was is not known: the others get on without whoever it was.
                self._move(worker)
            else:
                self.workers[number] = worker


def working_folder() -> str | None:
    """The working directory; None where it has been deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return None
