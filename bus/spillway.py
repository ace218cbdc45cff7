"""Where the pump puts what mailboxes have no room for: into the log, each event once."""

from __future__ import annotations

from collections.abc import Sequence

import pydantic_core

from ..schemas import Event
from ..schemas.events import NEVER_DROPPED
from .diagnostics import get_logger
from .log import EventLog, LogRecord, encode
from .round_trip import encode_exactly
from .spill import Spill
from .spilled_state import Kept, StateReader, StateWriter

log = get_logger()

KEPT_MOST = 1_000
"""Events of one spill that are kept as objects since their JSON would not give them back."""


Lost = dict[Spill, dict[str, int]]
"""How many events each spill loses, by cause."""
NAME = b'{"name":"'


class Spillway:
    """Writes the overflow of all mailboxes of one bus; used by the pump, read by the workers."""

    def __init__(self, event_log: EventLog) -> None:
        self.due: list[Spill] = []
        """Those that have been handed something; the pump's own."""
        self._log = event_log
        self._open: dict[Spill, None] = {}
        self._kept_values = Kept()
        self._states = StateWriter(self._kept_values)
        self._kinds: dict[str, tuple[type[Event], bytes]] = {}
        """The class of each name, and how the JSON of its events begins."""
        self._said: set[type[Event]] = set()

    def write(self, order: Sequence[Event]) -> None:
        """Writes what was handed over; `order` has all those events in the order of the pump."""
        due, self.due = self.due, []
        lost: Lost = {spill: {} for spill in due}
        try:
            for spill in due:
                if spill.cursor is None:
                    reader = StateReader(self._states.base(), self._kept_values)
                    spill.begin(self._log.cursor(), reader)
                    self._open[spill] = None
            # The pump alone appends, so it knows where a record will stand. What a spill keeps
            # must be there before its worker can find the record.
            records: list[LogRecord] = []
            if len(due) == 1:
                for event in due[0].unwritten:
                    self._add(event, due, lost, records)
            else:
                wanted: dict[int, list[Spill]] = {}
                for spill in due:
                    for event in spill.unwritten:
                        wanted.setdefault(id(event), []).append(spill)
                for event in order:
                    spills = wanted.get(id(event))
                    if spills is not None:
                        self._add(event, spills, lost, records)
            self._log.append_all(records)
        finally:
            for spill in due:
                spill.unwritten.clear()
                spill.written(spill, lost[spill])

    def decode(self, payload: bytes) -> Event:
        """The event of a record; for workers."""
        name = payload[len(NAME) : payload.find(b'"', len(NAME))].decode()
        event: Event = self._kinds[name][0].__pydantic_validator__.validate_json(payload)
        return event

    def tidy(self) -> None:
        """Lets go of the states of runs where nobody reads on; for the pump."""
        if not self._open and not self.due:
            self._states.forget()
            self._kept_values.clear()

    def leave(self, spill: Spill) -> None:
        """Notes that a spill has been read, or was given up; from any thread."""
        self._open.pop(spill, None)

    def _add(self, event: Event, spills: list[Spill], lost: Lost, records: list[LogRecord]) -> None:
        """Adds the records of an event for some spills to those that are to be appended."""
        if self._log.is_full and event.name not in NEVER_DROPPED:
            for spill in spills:
                _count(lost[spill], "disk")
            return
        payload = self._payload(event)
        if payload is None:
            spills = [spill for spill in spills if self._keeps(spill, event, lost)]
            if not spills:
                return
        at = records[-1].at + 1 if records else self._log.next
        change = self._states.change_to(event)
        if change is not None:
            records.append(LogRecord(at, change, (), "state"))
            at += 1
        to = tuple([spill.number for spill in spills])
        records.append(LogRecord(at, payload or _readable(event), to))
        for spill in spills:
            spill.note_record(at, len(payload or b""))
            if payload is None or event.name == "save":
                spill.kept[at] = event

    def _payload(self, event: Event) -> bytes | None:
        """The event's JSON; None where the event itself must be kept."""
        kind = type(event)
        known = self._kinds.get(event.name)
        if known is None:
            # Reading back goes by the name as it stands there.
            known = self._kinds[event.name] = (kind, b'%b%b"' % (NAME, event.name.encode()))
        if known[0] is not kind:
            return None  # A class of the same name was declared again, in a notebook say.
        payload = encode_exactly(event)
        return payload if payload is not None and payload.startswith(known[1]) else None

    def _keeps(self, spill: Spill, event: Event, lost: Lost) -> bool:
        if len(spill.kept) < KEPT_MOST or event.name in NEVER_DROPPED:
            return True
        _count(lost[spill], "overflow")
        if type(event) not in self._said:
            self._said.add(type(event))
            log.error(
                f"{type(event).__name__} events are dropped for subscribers that fell behind: "
                f"their fields do not come back from JSON, and {KEPT_MOST:,} of them wait in "
                "memory already. Give the class fields that JSON has: numbers, text, lists."
            )
        return False


def _readable(event: Event) -> bytes:
    """What stands in the log for an event that is kept as an object."""
    try:
        return encode(event)
    except Exception:  # A serializer of the user's.
        header = {"name": event.name, "run_id": event.run_id, "seq": event.seq}
        return pydantic_core.to_json(header, fallback=str)


def _count(lost: dict[str, int], cause: str) -> None:
    lost[cause] = lost.get(cause, 0) + 1
