"""For the tests of those who use stepbus: a recorder, scripted votes, a clock to turn by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from ..schemas import Event, Vote
from ..schemas.event import event_class
from .subscriber import Subscriber

E = TypeVar("E", bound=Event)
Script = Mapping[int | tuple[str, int], Vote | Iterable[Vote]]


class Recorder(Subscriber):
    """Keeps the events that it gets, and lets a test wait for them.

        recorder = bus.subscribe(Recorder())             # all events
        recorder = Recorder()
        bus.subscribe("log", "save")(recorder)           # some

    It may be subscribed in any way, with any delivery but `loop`.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._came = threading.Condition()

    def __call__(self, event: Event) -> None:
        """Keeps an event; recorders are handlers too."""
        with self._came:
            self._events.append(event)
            self._came.notify_all()

    def on_event(self, event: Event) -> None:
        """Keeps an event."""
        self(event)

    @property
    def events(self) -> list[Event]:
        """All events so far, in their order."""
        with self._came:
            return list(self._events)

    @property
    def kinds(self) -> list[str]:
        """The names of all events so far, in their order."""
        return [event.name for event in self.events]

    @overload
    def of(self, kind: type[E]) -> list[E]: ...
    @overload
    def of(self, kind: str) -> list[Any]: ...
    def of(self, kind: str | type[Event]) -> list[Any]:
        """The events of one kind so far."""
        wanted = event_class(kind)
        return [event for event in self.events if isinstance(event, wanted)]

    @overload
    def wait_for(self, kind: type[E], count: int = ..., timeout: float = ...) -> list[E]: ...
    @overload
    def wait_for(self, kind: str, count: int = ..., timeout: float = ...) -> list[Any]: ...
    def wait_for(self, kind: str | type[Event], count: int = 1, timeout: float = 10.0) -> list[Any]:
        """The events of one kind, once there are `count` of them.

        Raises:
            TimeoutError: they did not come within `timeout` seconds.
        """
        wanted = event_class(kind)

        def found() -> list[Event]:
            return [event for event in self._events if isinstance(event, wanted)]

        with self._came:
            if self._came.wait_for(lambda: len(found()) >= count, timeout):
                return found()
            kinds = ", ".join(event.name for event in self._events[-20:]) or "nothing"
            raise TimeoutError(
                f"{len(found())} of {count} {kind} events came within {timeout:g} s; the newest of "
                f"{len(self._events)} events are: {kinds}."
            )

    def clear(self) -> None:
        """Forgets the events so far."""
        with self._came:
            self._events.clear()


class ScriptedVotes(Subscriber):
    """Casts given votes at given events, concurrently, or exactly with `delivery="gate"`.

        votes = ScriptedVotes({3: Vote("save"), ("log", 10): [Vote("stop", reason="enough")]})
        bus.subscribe(votes, delivery="gate")

    Args:
        script: votes by the step of a `step_end`, or by an event's name and step. Each is cast
            once, at the first such event.
    """

    def __init__(self, script: Script) -> None:
        self._script: dict[tuple[str, int], list[Vote]] = {}
        for when, votes in script.items():
            key = ("step_end", when) if isinstance(when, int) else when
            event_class(key[0])
            self._script[key] = [votes] if isinstance(votes, Vote) else list(votes)
        self.cast: list[Vote] = []
        """The votes that were cast so far."""

    def on_event(self, event: Event) -> list[Vote]:
        """Returns what the script says for the event."""
        votes = self._script.pop((event.name, event.step), [])
        self.cast.extend(votes)
        return votes

    @property
    def num_waiting(self) -> int:
        """How many entries of the script have not come about yet."""
        return len(self._script)


class FakeClock:
    """A clock that stands still until it is told to move: `EventBus(clock=FakeClock())`.

    Args:
        start: what `monotonic()` shows at first, s.
    """

    def __init__(self, start: float = 1_000.0) -> None:
        self._now = start

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return self._now

    def time(self) -> float:
        """Wall time; 2001-09-09 at the start of the clock."""
        return 1_000_000_000.0 + self._now

    def advance(self, seconds: float) -> None:
        """Moves the clock forward."""
        self._now += seconds
