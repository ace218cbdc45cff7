"""The sidecar's own loop: reads what the trainer sends, serves the subscribers, answers.

This process loads what the subscribers import, and never torch nor the engine.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque
from typing import Any

from ..diagnostics import get_logger
from . import last_words
from .far_states import FarStates
from .guest import Guest
from .messages import Lines, Message, decode, encode
from .open_runs import OpenRuns, run_of
from .reading import EventLines
from .trainer import serve_trainer

log = get_logger()

BUSY_S = 0.010
"""Between two looks at the subscribers while they have something to do."""
IDLE_S = 0.2
"""Between two looks at whether the trainer lives."""
READ_BYTES = 1 << 18
LAST_ANSWERS_S = 1.0
CUT_OFF_S = 1.0
"""How long after the end of what the trainer sends it is taken for dead."""


def serve(feed: int, back: int, trainer: int) -> None:
    """Serves until the trainer says so or is gone.

    Args:
        feed: the descriptor that the trainer's messages come from.
        back: the descriptor that answers go to.
        trainer: its process id.
    """
    serve_trainer(trainer)
    host = Host(feed, back, trainer)
    last_words.hand_to(host.send)
    host.run()


class Host:
    """Serves the subscribers that the trainer sends."""

    def __init__(self, feed: int, back: int, trainer: int) -> None:
        self._feed, self._back, self._trainer = feed, back, trainer
        os.set_blocking(feed, False)
        os.set_blocking(back, False)
        self._lines = Lines()
        self._events = EventLines()
        self._states = FarStates()
        self._runs = OpenRuns()
        self._guests: dict[int, Guest] = {}
        self._answers: deque[bytes] = deque()
        self._unsent = b""
        self._ended = False
        self._cut_off_s: float | None = None
        """When nothing more could come; None while it can."""
        self._left_behind = False

    def send(self, kind: str, **fields: Any) -> None:
        """Sends a message to the trainer at the loop's next turn; from any thread."""
        self._answers.append(encode(kind, **fields))

    def run(self) -> None:
        """The loop."""
        while not self._ended or self._guests:
            if self._is_orphan():
                self._finish_alone()
                return
            self._turn()
        self._leave()

    def _is_orphan(self) -> bool:
        if self._cut_off_s is not None and time.monotonic() - self._cut_off_s > CUT_OFF_S:
            return True
        # End-of-file would not tell: workers that the trainer forked hold the pipe open.
        return os.getppid() != self._trainer

    def _turn(self) -> None:
        """Waits for a moment, then does what there is to do."""
        busy = bool(self._unsent) or self._cut_off_s is not None
        busy = busy or any(guest.busy for guest in self._guests.values())
        self._wait(BUSY_S if busy else IDLE_S)
        self._read()
        self._look()
        self._write()

    def _wait(self, seconds: float) -> None:
        waiting = select.poll()
        if not self._ended and self._cut_off_s is None:
            waiting.register(self._feed, select.POLLIN)
        if self._unsent:
            waiting.register(self._back, select.POLLOUT)
        waiting.poll(seconds * 1000)

    def _read(self) -> bool:
        """Takes what has come; False where nothing had."""
        if self._ended or self._cut_off_s is not None:
            return False
        try:
            data = os.read(self._feed, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._cut_off_s = time.monotonic()
            return False
        for line in self._lines.add(data):
            if self._events.expected:
                self._events.add(line)
                if not self._events.expected:
                    self._hand_over()
            else:
                self._obey(decode(line))
        return True

    def _obey(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "events":
            self._events.begin(message)
        elif kind == "rows":
            self._states.add_rows(message)
        elif kind == "forget":
            self._states.forget(message)
        elif kind == "run":
            self._runs.note(message)
        elif kind == "open":
            self._guests[message["to"]] = Guest(message, self.send)
        elif kind == "end":
            self._end()
        elif message["to"] not in self._guests:
            # It could not be made.
            self.send("closed", of=message["to"], account={})
        elif kind == "close":
            self._guests[message["to"]].close()
        elif kind == "abandon":
            self._guests[message["to"]].abandon()
        else:
            self._guests[message["to"]].leave_behind()

    def _hand_over(self) -> None:
        header, events = self._events.take()
        self._states.attach(header, events)
        self._runs.saw(events)
        if header["to"] in self._guests:
            self._guests[header["to"]].take(events)

    def _look(self) -> None:
        now = time.monotonic()
        for guest in list(self._guests.values()):
            guest.look_at_time(now)
            guest.look()
            if guest.gone:
                self._left_behind |= guest.left_behind
                del self._guests[guest.number]

    def _write(self) -> None:
        while self._answers:
            self._unsent += self._answers.popleft()
        if self._unsent:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                sent = os.write(self._back, self._unsent)
                self._unsent = self._unsent[sent:]

    def _end(self) -> None:
        """Takes nothing more; those who are served finish what they have."""
        self._ended = True
        for guest in self._guests.values():
            guest.close()

    def _leave(self) -> None:
        deadline = time.monotonic() + LAST_ANSWERS_S
        self._write()
        while self._unsent and time.monotonic() < deadline and not self._is_orphan():
            self._wait(BUSY_S)
            self._write()
        self._go()

    def _finish_alone(self) -> None:
        """Handles what has come, tears down, and is gone by a deadline: the trainer is dead."""
        deadline = last_words.leave_by_force_after()
        while self._read():
            pass
        if self._events.num_waiting:
            self._hand_over()
        killed = self._runs.killed(self._trainer)
        for guest in self._guests.values():
            guest.take_last(killed, self._runs.ended)
        self._end()
        while self._guests and time.monotonic() < deadline:
            self._wait(BUSY_S)
            self._look()
            self._answers.clear()
        late = [guest.name for guest in self._guests.values()]
        closed = [run.run_id for run in killed if run_of(run) not in self._runs.ended]
        last_words.tell_orphan(self._trainer, closed, late)
        self._left_behind |= bool(late)
        self._go()

    def _go(self) -> None:
        if self._left_behind:
            # A thread that never returns must not keep the process; what ends it is skipped.
            sys.stderr.flush()
            os._exit(0)
