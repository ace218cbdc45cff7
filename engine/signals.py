"""Ctrl-C and SIGTERM: save, stop, then end as the signal asked for."""

from __future__ import annotations

import contextlib
import importlib
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

HANDLED = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """For the length of a with block, the first signal asks for a stop, the second interrupts.

    Handlers are installed on the main thread only, not over a signal that is ignored, call what
    was installed before where that was a function of the program's own, and are put back at the
    end. A handler only notes the signal: it may have interrupted anything, and takes no lock.
    """

    def __init__(self) -> None:
        self._former: dict[int, Any] = {}
        self._former_on_child: Any = None
        self._received_s = 0.0
        self.received: signal.Signals | None = None
        self.repeated = False
        """Whether a second Ctrl-C has come."""
        self.unheard: list[str] = []
        """Names of signals that the run has still to obey."""

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                # None: a handler that was not installed from Python cannot be put back.
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, former in self._former.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, former)
        self._former = {}
        if self.received == signal.SIGINT:
            # torch imports it as the program ends, whereupon Python forgets that it ends by an
            # interrupt, and exits with 1 rather than 130.
            with contextlib.suppress(Exception):
                importlib.import_module("tabulate")
        if signal.getsignal(signal.SIGCHLD) == self._hear_child:
            signal.signal(signal.SIGCHLD, self._former_on_child)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        if not again:
            self._received_s = time.monotonic()
            self.received = signal.Signals(number)
            self.unheard.append(self.received.name)
            self._spare_the_step()
        former = self._former.get(number)
        if callable(former) and former is not signal.default_int_handler:
            former(number, frame)
        if again and number == signal.SIGINT:
            self.repeated = True
            raise KeyboardInterrupt

    def _spare_the_step(self) -> None:
        """Lets the step end of which the checkpoint will be, though workers of the data may die.

        A signal that goes to the whole group of processes ends them too, whereupon torch's handler
        would raise an error, wherever this thread happens to be.
        """
        former = signal.getsignal(signal.SIGCHLD)
        if callable(former):
            self._former_on_child = former
            signal.signal(signal.SIGCHLD, self._hear_child)

    def _hear_child(self, number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):
            self._former_on_child(number, frame)

    def left_s(self, budget_s: float) -> float | None:
        """What is left of the time that a signal gives, s; None while there was none."""
        if self.received is None:
            return None
        return max(0.0, budget_s - (time.monotonic() - self._received_s))

    def finish(self) -> None:
        """Ends the program as the signal asked for, once all is saved; nothing without a signal.

        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: 143 after SIGTERM.
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received == signal.SIGTERM:
            raise SystemExit(143)
