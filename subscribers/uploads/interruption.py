"""How an upload that waits or works for long is told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
LOOK_S = 0.02
"""How soon an interruption is noticed."""


class InterruptedUpload(Exception):
    """The time of an upload is over."""


class Interruption:
    """A flag that ends what waits for it; set from any thread, once and for all."""

    def __init__(self) -> None:
        self._flag = threading.Event()

    def set(self) -> None:
        """Has every wait and check raise."""
        self._flag.set()

    @property
    def is_set(self) -> bool:
        """Whether the time is over."""
        return self._flag.is_set()

    def check(self) -> None:
        """Goes on.

        Raises:
            InterruptedUpload: the time is over.
        """
        self.wait(0.0)

    def wait(self, seconds: float) -> None:
        """Waits.

        Raises:
            InterruptedUpload: the time is over.
        """
        if self._flag.wait(max(0.0, seconds)):
            raise InterruptedUpload


class Patience:
    """Calls again what failed, after 0.5 s, 1 s, 2 s, ... up to 30 s.

    Args:
        tries: how often in all.
        interruption: ends the waiting.
        on_failure: is told of each failure that is not the last: the error, and the delay in s.
        wait: waits so many seconds; the interruption's own by default.
    """

    def __init__(
        self,
        tries: int,
        interruption: Interruption,
        on_failure: Callable[[Exception, float], None] | None = None,
        wait: Callable[[float], None] | None = None,
    ) -> None:
        self._tries = tries
        self._interruption = interruption
        self._on_failure = on_failure
        self._wait = wait or interruption.wait

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the function returns, in one of its tries.

        Raises:
            Exception: what its last try raised, or one that another try would not help.
            InterruptedUpload: the time is over.
        """
        for failures in range(1, self._tries + 1):
            self._interruption.check()
            try:
                return function(*arguments)
            except HOPELESS:
                raise
            except Exception as error:
                if failures == self._tries:
                    raise
                delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (failures - 1))
                if self._on_failure is not None:
                    self._on_failure(error, delay_s)
                self._wait(delay_s)
        raise AssertionError("there is at least one try")


class LocalFileError(Exception):
    """A file that was to be sent is gone, or is not what it was."""


class RefusedUpload(Exception):
    """The other side has refused a request, and would again."""


HOPELESS = (
    InterruptedUpload,
    LocalFileError,
    RefusedUpload,
    FileNotFoundError,
    PermissionError,
)
"""What does not change by itself: a folder or bucket that is not there, one that is refused."""


class InThread(Generic[T]):
    """A call in a daemon thread of its own: foreign code in it may hang, who waits for it not.

    Args:
        function: what is called.
        name: of the thread.
    """

    def __init__(self, function: Callable[[], T], name: str) -> None:
        self.done = threading.Event()
        self._function = function
        self._value: T | None = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error
        finally:
            self.done.set()

    def result(self) -> T:
        """What it returned; to be asked once it is done."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def wait(self, interruption: Interruption, grace_s: float) -> bool:
        """Waits until it is done; False where it is not done soon after the interruption."""
        while not self.done.wait(LOOK_S):
            if interruption.is_set:
                return self.done.wait(grace_s)
        return True


def within(seconds: float, function: Callable[[], T], name: str) -> T:
    """What a function returns that may hang: it runs in a thread of its own.

    Raises:
        TimeoutError: it took longer; its thread, a daemon, is left behind.
        BaseException: what it raised.
    """
    call = InThread(function, name)
    if not call.done.wait(seconds):
        raise TimeoutError(f"no answer within {seconds:g} s")
    return call.result()
