"""Reads a run's events from a number on, those of before it came and those that follow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..schemas import Event, parse_event
from ..schemas.errors import ArgumentError, EventsGoneError
from .diagnostics import get_logger
from .log import Cursor, LogRecord
from .replay import KEPT_KINDS, Key, Replay, is_kept

log = get_logger()

READ_AT_A_TIME = 64


class LateReader:
    """Takes all of its events from the replay, through a cursor of its own.

    So there is no seam between what was before it came and what comes after: neither a gap nor a
    repeat, and one that falls behind holds nothing but its place on the disk.

    Args:
        replay: what the bus keeps.
        cursor: where it begins.
        takes: whether it wants an event.
    """

    def __init__(self, replay: Replay, cursor: Cursor, takes: Wanted) -> None:
        self._replay = replay
        self._cursor = cursor
        self._takes = takes
        self._events: deque[Event] = deque()
        self._num_missing = 0
        self.ended = False

    def bind(self) -> None:
        """Nothing: who waits says on which loop."""

    async def next_event(self) -> Event | None:
        """The next event, or None once the bus has closed and all were read.

        Raises:
            EventsGoneError: the disk took or gave back no more.
        """
        while not self._events:
            if self.ended or self._takes.run_is_over:
                return None
            filled = self._replay.wait_after(self._cursor.next)
            if filled is not None:
                await filled.wait()
            elif not await self._read_on() and self._replay.closed:
                return None
        return self._events.popleft()

    async def _read_on(self) -> bool:
        before = self._cursor.next
        # What was read is kept here: a cancellation must not lose it.
        await anyio.to_thread.run_sync(self._read, limiter=anyio.CapacityLimiter(1))
        if self._cursor.num_missing > self._num_missing:
            missing = self._cursor.num_missing - self._num_missing
            self._num_missing = self._cursor.num_missing
            raise EventsGoneError(
                f"{missing:,} events that were kept for late readers are lost: the disk with the "
                "temporary folder took no more, or gave them back damaged."
            )
        return self._cursor.next > before

    def _read(self) -> None:
        records = self._cursor.read(READ_AT_A_TIME)
        self._events += [event for record in records if (event := self._event(record)) is not None]
        self._cursor.commit()

    def _event(self, record: LogRecord) -> Event | None:
        event = parse_event(record.payload)
        return event if self._takes(event) else None

    def end(self) -> None:
        """Lets go of its place; what it has not read is not kept on its account."""
        self.ended = True
        self._cursor.close()


def check_since(
    since: Any, run_id: str | None, kinds: tuple[type[Event], ...], others: dict[str, Any]
) -> None:
    """Refuses what a late reader cannot have.

    Raises:
        ArgumentError: no number, a number without its run, a kind that is not kept, or an option
            of readers that begin with what comes.
    """
    pair = isinstance(since, tuple) and len(since) == 2
    numbers = since if pair else (since,)
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ArgumentError(
            f"since={since!r}: give the number (seq) of the first event that is wanted, from 0, or "
            "its attempt and number, (2, 0)."
        )
    if run_id is None and since != 0:
        raise ArgumentError(
            f"since={since!r} is a number of one run: give its run_id= too, or since=0 for all "
            "that is kept."
        )
    for kind in kinds:
        if not is_kept(kind) and not any(issubclass(kept, kind) for kept in KEPT_KINDS):
            names = ", ".join(str(kept.model_fields["name"].default) for kept in KEPT_KINDS)
            raise ArgumentError(
                f"{kind.__name__} events are not kept for late readers, since they come several "
                f"times a step: leave since= out, or choose of {names}, and events of your own."
            )
    for name, given in others.items():
        if given:
            raise ArgumentError(
                f"{name}= has no meaning with since=, whose reader reads what was kept, in order "
                "and at its own pace: leave it out."
            )


class Wanted:
    """Which of the events that were kept a reader is given."""

    def __init__(
        self,
        kinds: tuple[type[Event], ...],
        last: tuple[type[Event], ...],
        run_id: str | None,
        since: Key,
        when: Callable[[Any], object] | None,
    ) -> None:
        self._kinds, self._last = kinds, last
        self._run_id, self._since, self._when = run_id, since, when
        self._said = False
        self.run_is_over = False
        """Whether the run has ended before the number at which it was to begin."""

    def __call__(self, event: Event) -> bool:
        if self._run_id is not None:
            if event.run_id != self._run_id:
                return False
            if (event.attempt, event.seq) < self._since:
                self.run_is_over |= isinstance(event, self._last)
                return False
        if isinstance(event, self._last):
            return True
        if not isinstance(event, self._kinds):
            return False
        try:
            return self._when is None or bool(self._when(event))
        except Exception:
            if not self._said:
                self._said = True
                log.exception(f"when= failed on {event.name} of a late reader; it is passed over")
            return False
