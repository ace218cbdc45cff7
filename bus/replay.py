"""What a bus keeps of its runs for readers that come late: events on disk, and where they stand."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel

from ..schemas import Event, TrainingEvent
from ..schemas import events as ev
from ..schemas.errors import EventsGoneError
from .diagnostics import get_logger
from .filters import Filter
from .log import Cursor, EventLog, encode
from .loop_host import LoopWaker
from .subscription import Options, Route, Subscription

log = get_logger()

KEPT_KINDS: tuple[type[Event], ...] = (
    ev.InitEnd,
    ev.TrainBegin,
    ev.TrainEnd,
    ev.RunFailed,
    ev.Log,
    ev.Artifact,
    ev.NonFinite,
    ev.Evaluate,
    ev.Predict,
    ev.Save,
    ev.Verdict,
    ev.SubscriberFailed,
    ev.SubscriberBehind,
    ev.Stalled,
    ev.Resumed,
    ev.BatchSizeRetry,
)
"""Kinds that are kept, beside users' own: not what happens several times a step."""
KEPT_MOST = 100_000
"""Events that are kept unless told otherwise: 25 MB on disk at 255 bytes a `log`."""
CHUNK = 64
"""Events that are found, and forgotten, together."""
MOST_RUNS = 10_000
"""Runs of which it is known what is gone."""

Key = tuple[int, int]
"""Attempt and number of an event: what orders the events of one run."""


def is_kept(kind: type[Event]) -> bool:
    """Whether events of exactly this class are kept."""
    return issubclass(kind, KEPT_KINDS) or not issubclass(kind, TrainingEvent)


class ReplaySubscription(Subscription):
    """The replay is a subscriber like any other, with a thread and a mailbox of its own."""

    def __init__(self, replay: Replay) -> None:
        super().__init__(
            replay, [Route(Event, replay.keep, Filter())], Options(name="replay", ranks="all")
        )
        # No advice to move it to a process.
        self.account.named_for_cost = True

    def handler_route(self, kind: type[Event]) -> Route | None:
        """The one route, for the kinds that are kept."""
        return self.routes[0] if is_kept(kind) else None


class _Chunk(NamedTuple):
    """Some events that follow each other in the log."""

    at: int
    """Position of the first."""
    runs: dict[str, tuple[Key, Key]]
    """First and last event of each run in it."""


class _Run:
    """What is known of a run, whether its events are still there or not."""

    __slots__ = ("ends", "first", "folder", "gone", "last")

    def __init__(self, key: Key) -> None:
        self.first = self.last = key
        self.gone: Key | None = None
        """The last event that is no longer kept."""
        self.ends: dict[str, Key] = {}
        """The last `train_end` and `run_failed`."""
        self.folder = ""


class _Bell:
    """Wakes the readers that wait on one event loop, by one call for all of them."""

    def __init__(self) -> None:
        self._waker = LoopWaker()
        self.waiting: list[anyio.Event] = []

    def ring(self) -> None:
        """Wakes them; from any thread, without waiting."""
        self._waker.call(self._wake)

    def _wake(self) -> None:
        for event in self.waiting:
            event.set()


class Replay:
    """Keeps the last events of a bus, of the kinds that a journal wants, in a log of its own.

    A log of its own, since it holds what it keeps: in that of the mailboxes it would hold the
    overflow of every subscriber that fell behind too. Memory stays flat: a mark for each 64 events.

    Args:
        most: how many events are kept, to within 64.
    """

    def __init__(self, most: int = KEPT_MOST) -> None:
        self.most = most
        self.closed = False
        self._log = EventLog()
        self._keeper = self._log.cursor(0)
        self._lock = threading.Lock()
        self._chunks: deque[_Chunk] = deque()
        self._runs: dict[str, _Run] = {}
        self._bells: dict[Any, _Bell] = {}

    def keep(self, event: Event) -> None:
        """Takes the next event; the handler of its subscription."""
        payload = encode(event)
        run_id, key = event.run_id, (event.attempt, event.seq)
        with self._lock:
            at = self._log.next
            self._log.append(payload)
            self._mark(at, run_id, key)
            self._note(event, run_id, key)
            bells, self._bells = self._bells, {}
        for bell in bells.values():
            bell.ring()

    def _mark(self, at: int, run_id: str, key: Key) -> None:
        if not self._chunks or at - self._chunks[-1].at >= CHUNK:
            self._chunks.append(_Chunk(at, {}))
            while at - self._chunks[0].at >= self.most + CHUNK:
                self._forget(self._chunks.popleft())
        runs = self._chunks[-1].runs
        runs[run_id] = (runs.get(run_id, (key, key))[0], key)

    def _forget(self, chunk: _Chunk) -> None:
        for run_id, (_, last) in chunk.runs.items():
            if run_id in self._runs:
                self._runs[run_id].gone = last
        self._keeper.commit(self._chunks[0].at)

    def _note(self, event: Event, run_id: str, key: Key) -> None:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _Run(key)
            if len(self._runs) > MOST_RUNS:
                del self._runs[next(iter(self._runs))]
        run.last = key
        if isinstance(event, ev.TrainEnd | ev.RunFailed):
            run.ends[event.name] = key
        elif isinstance(event, ev.TrainBegin):
            run.folder = event.output_dir

    def cursor(self, run_id: str | None, since: int | Key) -> tuple[Cursor, Key]:
        """A cursor that comes by all events from a number of a run on, and that number in full.

        A number alone is of the run's first attempt that this bus saw. Without a run, all that is
        kept.

        Raises:
            EventsGoneError: some of them are no longer kept.
        """
        with self._lock:
            begin = self._chunks[0].at if self._chunks else self._log.next
            if run_id is None:
                return self._log.cursor(begin), (0, 0)
            run = self._runs.get(run_id)
            if isinstance(since, int):
                since = (run.first[0] if run is not None else 1, since)
            if run is not None and run.gone is not None and since <= run.gone:
                raise self._gone(run_id, run, since)
            for chunk in self._chunks:
                if run_id in chunk.runs and chunk.runs[run_id][1] >= since:
                    return self._log.cursor(chunk.at), since
            return self._log.cursor(), since

    def _gone(self, run_id: str, run: _Run, since: Key) -> EventsGoneError:
        left = next((c.runs[run_id][0] for c in self._chunks if run_id in c.runs), None)
        go_on = (
            f"since={left} begins at the first that is left"
            if left is not None
            else "none of that run is left"
        )
        folder = f" in {run.folder}" if run.folder else ""
        return EventsGoneError(
            f"Event {since[1]} of attempt {since[0]} of run {run_id} is no longer kept: this bus "
            f"keeps the last {self.most:,} (EventBus(replay=...)), and {go_on}. What came before "
            f"is in the history of the run's checkpoints{folder}, and in a JSONLHistory or tracker "
            "of the run.",
            first=left,
        )

    def has_ended(self, run_id: str | None, since: Key, kinds: tuple[type[Event], ...]) -> bool:
        """Whether one of some kinds of event that end a run came before a number of that run."""
        with self._lock:
            run = self._runs.get(run_id) if run_id is not None else None
            if run is None:
                return False
            names = {str(kind.model_fields["name"].default) for kind in kinds}
            ends = [key for name, key in run.ends.items() if name in names]
            return any(key < since and key[0] == run.last[0] for key in ends)

    def wait_after(self, at: int) -> anyio.Event | None:
        """What is set once there is more than up to a position; None where there is already.

        To be called on the event loop of who waits.
        """
        token = anyio.lowlevel.current_token().native_token
        with self._lock:
            if self.closed or self._log.next > at:
                return None
            bell = self._bells.get(token)
            if bell is None:
                bell = self._bells[token] = _Bell()
            filled = anyio.Event()
            bell.waiting.append(filled)
            return filled

    def rest(self, timeout: float) -> None:
        """Ends the thread that writes, until there is more to write."""
        self._log.close(timeout)

    def close(self) -> None:
        """Ends it for good: readers come to their end, and with the last the log is deleted."""
        with self._lock:
            self.closed = True
            bells, self._bells = self._bells, {}
        for bell in bells.values():
            bell.ring()
        self._keeper.close()
        self._log.close()

    def make_inert(self) -> None:
        """In a forked child, where a thread of the parent's may have held the lock."""
        self._lock = threading.Lock()
