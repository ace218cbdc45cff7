"""stepbus's own thread: takes what was emitted, numbers it, builds it, hands it on.

It never runs user code and never waits for an event loop, a handler or a device.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ..schemas import Event
from .diagnostics import get_logger
from .emitter import Captured, build
from .run_link import RunLink
from .stall_watch import StallWatch
from .subscription import Route, Subscription
from .vote_files import VoteFiles

if TYPE_CHECKING:
    from .event_bus import EventBus
    from .worker import Worker

log = get_logger()

TICK_S = 0.010
"""Between two looks at the queue."""
SLICE_S = 0.0003
"""How long the pump works before it lets go of the interpreter lock."""
REST_S = 0.0002
"""How long it then lets the training thread have it."""
HURRY = 5_000
"""With more events waiting than this, the pump rests no more."""
UNRESOLVED_AFTER_S = 30.0
"""An event whose values have not come from the device by then goes out without them."""

Target = tuple[Subscription, Route, "Worker"]


class Published:
    """A user's own event on its way through the queue."""

    __slots__ = ("event", "link", "monotonic", "num_rows", "rest", "step_epoch")

    def __init__(self, event: Event, link: RunLink | None, monotonic: float) -> None:
        self.event = event
        self.link = link
        self.monotonic = monotonic
        if link is not None:
            state = link.state
            self.step_epoch = (state.global_step, state.epoch)
            self.rest = state.rest()
            self.num_rows = len(state.log_history)


class Pump:
    """The thread between the training thread and the mailboxes."""

    def __init__(self, bus: EventBus, queue: deque[Any], *, tick_s: float = TICK_S) -> None:
        self._bus = bus
        self._queue = queue
        self._tick_s = tick_s
        self._attention = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="stepbus-pump", daemon=True)
        self._targets: dict[type[Event], list[Target]] = {}
        self._outboxes: dict[Worker, list[Event]] = {}
        self._watches: dict[RunLink, tuple[StallWatch, VoteFiles | None]] = {}
        self._next_look = 0.0
        self._unnumbered = 0
        self._empty = threading.Condition()
        self.error: BaseException | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def attend(self) -> None:
        """Makes the pump look now rather than at its next tick."""
        self._attention.set()

    def retarget(self) -> None:
        """Forgets who listens to what; called when that changes."""
        self._targets = {}

    def stop(self, timeout: float) -> bool:
        """Hands on what is in the queue and ends the thread; False if it did not end in time."""
        self._closing = True
        self.attend()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def drain(self, timeout: float) -> bool:
        """Waits until everything emitted so far is in the mailboxes; False at the time-out."""
        deadline = time.monotonic() + timeout
        marker = _Marker()
        self._queue.append(marker)
        while not marker.reached.is_set():
            self.attend()
            if not self._thread.is_alive() or time.monotonic() > deadline:
                return marker.reached.is_set()
            marker.reached.wait(min(0.05, max(0.0, deadline - time.monotonic())))
        return True

    def watch(self, link: RunLink, files: VoteFiles | None, least_s: float) -> None:
        """Looks after a run: does it stand still, are there vote files."""
        self._watches = {**self._watches, link: (StallWatch(link, least_s), files)}
        self._next_look = 0.0

    def unwatch(self, link: RunLink) -> None:
        """Ends `watch`."""
        self._watches = {k: v for k, v in self._watches.items() if k is not link}

    def _run(self) -> None:
        while True:
            closing = self._closing
            self._attention.wait(self._tick_s)
            self._attention.clear()
            try:
                self._work(closing)
                self._look()
            except Exception as error:
                # A fault of stepbus's own. The events behind it must still get out.
                self.error = error
                log.error(f"the pump failed on an event and goes on with the next: {error!r}", exc_info=True)
            if closing and not self._queue:
                return

    def _work(self, flush: bool) -> None:
        queue = self._queue
        offset = self._bus.clock.time() - self._bus.clock.monotonic()
        while queue:
            end = time.perf_counter() + SLICE_S
            held_back = False
            while queue:
                item = queue[0]
                if type(item) is tuple and item[7] and not self._resolved(item, flush):
                    held_back = True
                    break
                queue.popleft()
                self._hand_on(item, offset)
                if time.perf_counter() > end:
                    break
            self._post()
            if held_back:
                return
            if len(queue) < HURRY:
                time.sleep(REST_S)

    def _resolved(self, item: tuple[Any, ...], flush: bool) -> bool:
        """Whether the values of an event have come, or are waited for no longer."""
        if all(handle.ready() for handle in item[7]):
            return True
        if self._bus.clock.monotonic() - item[1] <= UNRESOLVED_AFTER_S:
            return False
        log.error("values of an event never arrived from the device; it goes out without them")
        return True

    def _hand_on(self, item: Any, offset: float) -> None:
        if type(item) is tuple:
            self._hand_on_captured(Captured._make(item), offset)
        elif isinstance(item, Published):
            self._hand_on_published(item, offset)
        else:
            item.reached.set()

    def _hand_on_captured(self, captured: Captured, offset: float) -> None:
        emitter = captured.emitter
        link = emitter.link
        seq = link.next_seq()
        event: Event | None = None
        kind = emitter.kind
        for subscription, route, worker in self._targets_of(emitter.event_class):
            if captured.monotonic < subscription.since:
                continue
            if not subscription.takes(
                route, kind, captured.step, captured.epoch, link.key, captured.monotonic
            ):
                continue
            if kind == "subscriber_failed" and captured.values["subscriber"] == subscription.name:
                continue
            if event is None:
                event = build(captured, seq, offset)
            self._put(event, worker)
        if kind == "verdict" and captured.note:
            verdict = {k: v for k, v in captured.values.items() if k not in ("votes", "vetoes")}
            for settle in captured.note:
                settle({**verdict, "seq": seq})

    def _hand_on_published(self, item: Published, offset: float) -> None:
        link = item.link
        update: dict[str, Any] = {"monotonic": item.monotonic, "time": item.monotonic + offset}
        run: tuple[str, int] = ("", 0)
        if link is not None:
            run = link.key
            update |= {**link.header, "seq": link.next_seq()}
            update["step"], update["epoch"] = item.step_epoch
        else:
            update["seq"] = self._unnumbered
            self._unnumbered += 1
        event = item.event.model_copy(update=update)
        if link is not None:
            event.attach_state(item.rest, item.num_rows)
        for subscription, route, worker in self._targets_of(type(event)):
            if item.monotonic >= subscription.since and subscription.takes(
                route, event.name, event.step, event.epoch, run, item.monotonic
            ):
                self._put(event, worker)

    def _targets_of(self, event_class: type[Event]) -> list[Target]:
        targets = self._targets.get(event_class)
        if targets is None:
            targets = self._targets[event_class] = self._bus.targets(event_class)
        return targets

    def _put(self, event: Event, worker: Worker) -> None:
        if event.name == "save":
            event.lease.acquire(worker.subscription.name)  # type: ignore[attr-defined]
        outbox = self._outboxes.get(worker)
        if outbox is None:
            outbox = self._outboxes[worker] = []
        outbox.append(event)

    def _post(self) -> None:
        """Puts what was sorted into the mailboxes, and wakes the loop once for all of it."""
        if not self._outboxes:
            return
        outboxes, self._outboxes = self._outboxes, {}
        for worker, events in outboxes.items():
            worker.mailbox.put(events)
        self._bus.wake_loop(list(outboxes))

    def _look(self) -> None:
        now = self._bus.clock.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + 1.0
        for watch, files in self._watches.values():
            watch.look(now)
            if files is not None:
                files.look()
        self._bus.look_after_workers(now)


class _Marker:
    """A place in the queue that somebody waits for."""

    __slots__ = ("reached",)

    def __init__(self) -> None:
        self.reached = threading.Event()


