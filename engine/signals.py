"""Ctrl-C and SIGTERM as votes: save, stop, then end as the signal asked for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from ..bus.diagnostics import get_logger

log = get_logger()

HANDLED = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """For the length of a with block, the first signal asks for a stop, the second interrupts.

    Handlers are installed on the main thread only, call what was installed before where that was a
    function of the program's own, and are put back at the end.

    Args:
        on_signal: called with the signal's name, from within the handler.
    """

    def __init__(self, on_signal: Callable[[str], None]) -> None:
        self._on_signal = on_signal
        self._former: dict[signal.Signals, Any] = {}
        self.received: signal.Signals | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, former)
        self._former = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = signal.Signals(number)
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._on_signal(self.received.name)
        former = self._former.get(self.received)
        if callable(former) and former is not signal.default_int_handler:
            former(number, frame)

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
