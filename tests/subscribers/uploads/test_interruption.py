"""What failed is tried again, with longer and longer waits; an interruption ends it."""

from __future__ import annotations

import threading

import pytest

from stepbus.subscribers.uploads.interruption import (
    InterruptedUpload,
    Interruption,
    InThread,
    Patience,
    within,
)


class Failing:
    """Fails so many times."""

    def __init__(self, failures: int, error: type[Exception] = ConnectionError) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error(f"failure {self.calls}")
        return "done"


def test_a_call_is_made_again_after_longer_and_longer_waits() -> None:
    waits: list[float] = []
    told: list[str] = []
    function = Failing(8)
    patience = Patience(
        9, Interruption(), lambda error, delay_s: told.append(str(error)), waits.append
    )
    assert patience.call(function) == "done"
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert told == [f"failure {number}" for number in range(1, 9)]


def test_the_last_failure_is_raised() -> None:
    waits: list[float] = []
    with pytest.raises(ConnectionError, match="failure 3"):
        Patience(3, Interruption(), wait=waits.append).call(Failing(3))
    assert waits == [0.5, 1]


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_what_does_not_change_by_itself_is_not_tried_again(error: type[Exception]) -> None:
    function = Failing(1, error)
    with pytest.raises(error):
        Patience(5, Interruption()).call(function)
    assert function.calls == 1


def test_an_interruption_ends_the_waiting_and_what_would_come() -> None:
    interruption = Interruption()
    function = Failing(5)
    patience = Patience(5, interruption, lambda error, delay_s: interruption.set())
    with pytest.raises(InterruptedUpload):
        patience.call(function)
    assert function.calls == 1
    with pytest.raises(InterruptedUpload):
        patience.call(function)
    assert function.calls == 1


def test_a_call_that_hangs_is_left_behind() -> None:
    forever = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, lambda: forever.wait(60), "hangs")
    interruption = Interruption()
    call = InThread(lambda: forever.wait(60), "hangs")
    interruption.set()
    assert not call.wait(interruption, 0.05)
    forever.set()
    assert call.done.wait(10)
    assert call.result() is True
