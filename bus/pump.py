"""stepbus's own thread: takes what was emitted, numbers it, builds it, hands it on.

It never runs user code and never waits for an event loop, a handler or a device.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..schemas import Event, Save
from .deferred import settled
from .diagnostics import get_logger
from .emitter import build
from .outgoing import Outgoing
from .published import HandedOn, Published
from .resting import Resting
from .run_link import Numbering, RunLink
from .stall_watch import StallWatch
from .vote_files import VoteFiles

if TYPE_CHECKING:
    from .lifetime import BusLifetime
    from .roster import Roster

log = get_logger()

TICK_S = 0.010
"""Between two looks at the queue."""
BUSY_EVENTS, LONG_TICKS = 16, 2.5
"""After a look that found nothing, or so many events, the next comes so many ticks later: each
wakes up threads, which a step of less than a millisecond feels, and nobody sees such a delay."""
SLICE_S = 0.0003
"""How long the pump works before it lets go of the interpreter lock."""
SLICE_EVENTS = 8
"""Events between two looks at the time."""
REST_S = 0.0002
"""How long it then lets the training thread have it."""
HURRY = 5_000
"""With more events waiting than this, the pump rests no more, unless a mailbox is to overflow: then
its worker is let work first."""
HURRIED_SLICE_S = 0.001
UNRESOLVED_AFTER_S = 30.0
"""An event whose values have not come from the device by then goes out without them."""
LAST_SLICE_S = 1.0
"""How long a pump that is told to leave its queue as it is may take to notice."""
LOOK_AT_WORKERS_S = 0.1
LOOK_AT_RUNS_S = 1.0


class Request:
    """A place in the queue, at which the pump calls a function of the bus's own."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call


class Pump:
    """The thread between the training thread and the mailboxes."""

    def __init__(
        self, bus: BusLifetime, queue: deque[Any], roster: Roster, *, tick_s: float = TICK_S
    ) -> None:
        self._bus = bus
        self._queue = queue
        self._tick_s = tick_s
        self._attention = threading.Event()
        self._num_found = 0
        """Events since it last woke up."""
        self._ended = False
        self._give_up_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="stepbus-pump", daemon=True)
        self._outgoing = Outgoing(bus.targets, bus.spillway)
        self._resting = Resting(bus.clock, roster, self._outgoing)
        self._watches: dict[RunLink, tuple[StallWatch, VoteFiles | None]] = {}
        self._look_at_workers = 0.0
        self._look_at_runs = 0.0
        self._unnumbered = Numbering()
        self.error: BaseException | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def attend(self) -> None:
        """Makes the pump look now rather than at its next tick."""
        self._attention.set()

    def retarget(self) -> None:
        """Forgets who listens to what; called when that changes."""
        self._outgoing.retarget()
        self.attend()

    def give_up_waiting(self, at: float) -> None:
        """Waits for values on their way only until `at` (time.monotonic(), s): the bus closes."""
        self._give_up_at = at

    def stop(self, timeout: float) -> bool:
        """Hands on what is in the queue and ends the thread; False if it did not end in time."""
        self._queue.append(Request(self._end))
        self.attend()
        self._thread.join(timeout)
        if self._thread.is_alive():
            # Not reached in time, and it may be thrown away with the rest of the queue.
            self._end()
            self._thread.join(LAST_SLICE_S)
        return not self._thread.is_alive()

    def drain(self, timeout: float) -> bool:
        """Waits until everything emitted so far is in the mailboxes; False at the time-out.

        Vote files are read too: the last merge point of a run, held after it, must not miss them.
        """
        deadline = time.monotonic() + timeout
        reached = threading.Event()
        self._queue.append(Request(self._read_vote_files))
        self._queue.append(Request(reached.set))
        while not reached.is_set():
            self.attend()
            if not self._thread.is_alive() or time.monotonic() > deadline:
                return reached.is_set()
            reached.wait(min(0.05, max(0.0, deadline - time.monotonic())))
        return True

    def watch(self, link: RunLink, files: VoteFiles | None, least_s: float) -> None:
        """Looks after a run: does it stand still, are there vote files."""
        self._watches = {**self._watches, link: (StallWatch(link, least_s), files)}
        self._look_at_runs = 0.0

    def unwatch(self, link: RunLink) -> None:
        """Ends `watch`."""
        self._watches = {k: v for k, v in self._watches.items() if k is not link}

    def _end(self) -> None:
        self._ended = True

    def _run(self) -> None:
        while not self._ended:
            self._attention.wait(self._pause_s())
            self._attention.clear()
            self._resting.wake()
            self._num_found = 0
            more = True
            while more and not self._ended:
                more = self._work()
                # After each slice, since there may be more to do for ever.
                self._look()
        self._resting.wake(everybody=True)

    def _pause_s(self) -> float:
        if not self._bus.is_heard:
            return LOOK_AT_WORKERS_S
        return self._tick_s * (1 if 0 < self._num_found < BUSY_EVENTS else LONG_TICKS)

    def _own_fault(self, what: str, error: Exception) -> None:
        # What is behind it must still get out.
        self.error = error
        log.error(f"the pump failed on {what} and goes on: {error!r}", exc_info=True)

    def _work(self) -> bool:
        """Works for a slice; True when there is more to do."""
        queue = self._queue
        if not queue:
            return False
        offset = self._bus.clock.time() - self._bus.clock.monotonic()
        held_back = False
        try:
            held_back = self._work_a_slice(queue, offset)
        except Exception as error:
            self._own_fault("an event", error)
        self._post()
        if len(queue) < HURRY or self._outgoing.crowded:
            time.sleep(REST_S)
        return not held_back and bool(queue)

    def _work_a_slice(self, queue: deque[Any], offset: float) -> bool:
        """Works for a moment; True when the first event waits for its values."""
        end = time.perf_counter() + (SLICE_S if len(queue) < HURRY else HURRIED_SLICE_S)
        popleft, hand_on = queue.popleft, self._hand_on
        num_events = 0
        while queue:
            item = queue[0]
            if type(item) is tuple:
                if item[6] and not self._resolved(item):
                    return True
                popleft()
                hand_on(item, offset)
            elif type(item) is HandedOn:
                if item.captured and item.captured.deferred and not self._resolved(item.captured):
                    return True
                popleft()
                self._hand_over(item, offset)
            else:
                popleft()
                if type(item) is Published:
                    self._hand_on_published(item, offset)
                else:
                    self._post()
                    item.call()
                    if self._ended:
                        return False
            num_events += 1
            self._num_found += 1
            if num_events % SLICE_EVENTS == 0 and time.perf_counter() > end:
                return False
        return False

    def _resolved(self, item: tuple[Any, ...]) -> bool:
        """Whether the values of an event have come, or are waited for no longer."""
        if all(settled(handle) for handle in item[6]):
            return True
        if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
            why = "the bus closes"
        elif self._bus.clock.monotonic() - item[1] > UNRESOLVED_AFTER_S:
            why = f"they have not come for {UNRESOLVED_AFTER_S:.0f} s"
        else:
            return False
        log.error(
            f"{item[0].kind} (step {item[2]}) goes out without its values from the device: {why}"
        )
        return True

    def _hand_on(self, item: tuple[Any, ...], offset: float) -> None:
        emitter, monotonic, note = item[0], item[1], item[7]
        link = emitter.link
        seq = link.numbering.take()
        event: Event | None = None
        lanes = self._outgoing.lanes_of(emitter.event_class)
        for since, always, subscription, route, append, worker in lanes:
            if monotonic < since or note is subscription:
                continue
            if not always and not subscription.takes(
                route, emitter.kind, item[2], item[3], link.key, monotonic
            ):
                continue
            if event is None:
                event = build(item, seq, offset)
                self._outgoing.note(event)
            if note is not None and emitter.kind == "save":
                note.acquire(worker.subscription.name)
            append(event)
        if event is not None:
            emitter.untaken = 0
        elif lanes:
            self._resting.note_untaken(emitter, lanes)
        if note is not None and emitter.kind == "verdict":
            verdict = {k: v for k, v in item[5].items() if k not in ("votes", "vetoes")}
            for settle in note:
                settle({**verdict, "seq": seq})

    def _hand_on_published(self, item: Published, offset: float) -> None:
        lanes = self._outgoing.lanes_of(type(item.event))
        if not lanes:
            return  # What nobody wants takes no number.
        event = item.complete((item.numbering or self._unnumbered).take(), offset)
        self._outgoing.note(event)
        for lane in lanes:
            if item.monotonic >= lane.since and (
                lane.always
                or lane.subscription.takes(
                    lane.route, event.name, event.step, event.epoch, item.run, item.monotonic
                )
            ):
                lane.append(event)

    def _hand_over(self, item: HandedOn, offset: float) -> None:
        """Puts what a callback handed on into its own mailbox, in order with all else."""
        subscription = item.subscription
        worker = self._bus.worker_of(subscription)
        event = item.complete(offset)
        route = subscription.handler_route(type(event))
        if worker is None or route is None:
            return
        if not route.filter.always and not subscription.takes(
            route, event.name, event.step, event.epoch, item.run, event.monotonic
        ):
            return
        if isinstance(event, Save):
            event.lease.acquire(subscription.name)  # type: ignore[attr-defined]
        self._outgoing.note(event)
        self._outgoing.append_for(worker)(event)

    def _post(self) -> None:
        posted = self._outgoing.post()
        if posted:
            self._bus.wake_loop(posted)

    def _read_vote_files(self) -> None:
        for _, files in self._watches.values():
            if files is not None:
                files.look()

    def _look(self) -> None:
        now = self._bus.clock.monotonic()
        try:
            self._bus.wake_some_readers()
            if now >= self._look_at_workers:
                self._look_at_workers = now + LOOK_AT_WORKERS_S
                self._bus.look_after_workers(now)
                self._outgoing.forget_finished()
                self._bus.spillway.tidy()
            if now >= self._look_at_runs:
                self._look_at_runs = now + LOOK_AT_RUNS_S
                for link, (watch, files) in self._watches.items():
                    watch.look(now)
                    link.account.sum_up()
                    if files is not None:
                        files.look()
        except Exception as error:
            self._own_fault("looking after runs and workers", error)
