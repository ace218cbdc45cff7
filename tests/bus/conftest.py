"""A bus that is closed after the test, and the check that none of its threads is left."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stepbus.bus import EventBus

MakeBus = Callable[..., EventBus]


def threads_of_stepbus() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stepbus")]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    assert threads_of_stepbus() == []


@pytest.fixture
def make_bus(no_thread_left: None) -> Iterator[MakeBus]:
    """Makes started buses and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> EventBus:
            bus = EventBus(**{"drain_timeout": 10.0, **options})
            stack.callback(bus.close)
            return bus.start()

        yield make


@pytest.fixture
def bus(make_bus: MakeBus) -> EventBus:
    return make_bus()
