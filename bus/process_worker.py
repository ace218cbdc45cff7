"""Delivery `process`: what the trainer's process keeps of a subscriber that lives in another.

Its events wait in the mailbox, are sent in batches of a bounded number, and are kept until the
process says that they are dealt with: what was sent to a process that died is sent again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice

from ..schemas import Event, Vote
from ..schemas.errors import DeliveryError
from .handling import Handling, Services
from .mailbox import Mailbox
from .sidecar.accounting import Reported
from .sidecar.messages import Message, encode
from .sidecar.sent_states import SentHistories, SentStates
from .subscriber import Subscriber
from .subscription import Subscription

WINDOW = 4_096
"""Events that are sent and not dealt with, at most."""
LOSSY_WINDOW = 16
"""The same where the mailbox may drop: what has been sent cannot be dropped any more."""
BATCH = 512
"""Events sent at once, so that all subscribers have their turn."""


class ProcessWorker:
    """Feeds one subscription's handlers in another process; used by the feeder's thread.

    Other threads put events into its mailbox, wait for its `ready` and `finished`, and call
    `abandon`.

    Args:
        subscription: whose handlers, with a recipe.
        services: the bus, for what comes back.
        number: tells it apart from the others in the same process.
        wake: lets the feeder look at it.
    """

    def __init__(
        self,
        subscription: Subscription,
        services: Services,
        number: int,
        wake: Callable[[], None],
    ) -> None:
        self.subscription = subscription
        self.mailbox: Mailbox = subscription.mailbox
        self.handling = Handling(subscription, services)
        self.ready = threading.Event()
        self.error: BaseException | None = None
        self.finished = threading.Event()
        self.phase = "open()"
        """Where it is: open(), handlers or close()."""
        self.number = number
        self.wake = wake
        self._services = services
        self._window = subscription.sent
        self._settled = 0
        """The position of the first event in the window."""
        self._sent = 0
        """How many of the window the present process has got."""
        self._votes: set[tuple[int, int]] = set()
        self._states = SentStates(number, SentHistories())
        self._reported = Reported(subscription.account)
        self._in_a_row = 0
        self._opened_at = 0
        self.abandoned = False
        """Whether what waits is to be dropped."""
        self.unwanted = False
        """Whether its process is to be killed: its time is over."""
        self._told = ""
        overflow = subscription.options.overflow
        self._lossy = overflow in ("drop_oldest", "drop_newest", "latest")
        self._limit = {"latest": 1}.get(overflow, LOSSY_WINDOW if self._lossy else WINDOW)
        self._limit_now = self._limit
        """After a death few are sent at first, so that an event that brings death is found."""

    def abandon(self) -> None:
        """Stops handling: what still waits is counted as dropped. From any thread."""
        self.abandoned = True
        self.mailbox.close()
        self.wake()

    def end_by_force(self, timeout: float) -> bool:
        """Has its process killed; True once it has ended. From any thread."""
        self.unwanted = True
        self.mailbox.close()
        self.wake()
        return self.finished.wait(timeout)

    # What the process is told

    def opening(self, histories: SentHistories) -> bytes:
        """Tells a process to make the subscriber, whose stream goes on where it was left.

        `histories` are those that the process has.
        """
        self._sent = 0
        self._states = SentStates(self.number, histories)
        self._told = "open"
        self._reported.begin(self._settled)
        self._opened_at = self._settled
        self.phase = "open()"
        options = self.subscription.options
        return encode(
            "open",
            to=self.number,
            name=self.subscription.name,
            recipe=self.subscription.recipe,
            options={
                "timeout": options.timeout,
                "retries": options.retries,
                "quarantine_after": options.quarantine_after,
                "critical": options.critical,
            },
            at=self._settled,
        )

    def next_lines(self) -> bytes:
        """What the process is to be sent now; empty where there is nothing."""
        if self._told != "open":
            return b""
        if self.handling.account.quarantined or self.abandoned:
            self._drop_mail()
        elif not self._lossy or self.phase == "handlers":
            self._fill_window()
        end = min(self._sent + BATCH, self._limit_now)
        unsent = list(islice(self._window, self._sent, end))
        if unsent and not self.abandoned:
            self._sent += len(unsent)
            self.handling.event = self._window[0]
            return self._states.lines_of(unsent)
        if self.abandoned:
            self._told = "abandon"
            return encode("abandon", to=self.number)
        if self.mailbox.closed and not len(self.mailbox) and self._sent == len(self._window):
            self._told = "close"
            self._note_closing()
            return encode("close", to=self.number)
        return b""

    @property
    def has_more(self) -> bool:
        """Whether `next_lines` has something to say at once."""
        if self._told != "open":
            return False
        return self._sent < min(len(self._window), self._limit_now) or (
            self.mailbox.can_take and len(self._window) < self._limit_now
        )

    def _fill_window(self) -> None:
        while len(self._window) < self._limit_now:
            event = self.mailbox.take()
            if event is None:
                if not self.mailbox.can_read_on:
                    return
                self.mailbox.read_on()
                continue
            self._window.append(event)

    def _drop_mail(self) -> None:
        """Throws away what was not sent: the subscriber gets no further events."""
        cause = "quarantine" if self.handling.account.quarantined else "deadline"
        self.handling.drop(cause, self.mailbox.discard())

    # What the process says

    def hear(self, message: Message) -> None:
        """Takes a message of its own from the process."""
        kind = message["kind"]
        if "account" in message:
            self._reported.take(message["account"])
        if kind == "done":
            self._settle_until(message["upto"])
        elif kind == "vote":
            self._post(message)
        elif kind == "failed":
            event = self._event_at(message["at"])
            self._services.report_failure(self.subscription, event, message["error"])
        elif kind == "ready":
            self._note_ready(message["error"])
        elif kind == "whereabouts":
            target = self.subscription.target
            if isinstance(target, Subscriber):
                target.learn_whereabouts(message["found"])
        elif kind == "closed":
            self.finish()

    def _note_closing(self) -> None:
        if self._told == "close" and not self._window:
            self.phase = "close()"

    def _note_ready(self, error: str | None) -> None:
        if error is not None and self.error is None:
            self.error = DeliveryError(error)
            self.handling.open_failed(f"open() failed: {error}")
        if self.phase == "open()":
            self.phase = "handlers"
        self.ready.set()

    def _post(self, message: Message) -> None:
        at = message["at"]
        event = self._event_at(at)
        if at is not None:
            # Handled twice, after the death of a process, its votes count once.
            if event is None or (at, message["index"]) in self._votes:
                return
            self._votes.add((at, message["index"]))
        self._services.post(Vote(**message["vote"]), event)

    def _event_at(self, at: int | None) -> Event | None:
        if at is None or not 0 <= at - self._settled < len(self._window):
            return None
        return self._window[at - self._settled]

    def _settle_until(self, position: int) -> None:
        while self._settled < position and self._window:
            event = self._window.popleft()
            self._settled += 1
            self._sent = max(0, self._sent - 1)
            self.handling.done(event)
            self.mailbox.settle()
        self._limit_now = min(self._limit, max(self._limit_now, 2 * (position - self._opened_at)))
        self.handling.event = self._window[0] if self._window else None
        self._note_closing()
        if self._votes:
            self._votes = {vote for vote in self._votes if vote[0] >= self._settled}

    def outlived_process(self) -> int:
        """Notes that the process has died; how often that has happened before it got on."""
        idle = self.phase == "handlers" and not self._window
        if self._settled > self._opened_at or idle:
            self._in_a_row = 0
        else:
            self._in_a_row += 1
        self._limit_now = 1
        return self._in_a_row

    # Its end

    def give_up(self, why: str) -> None:
        """Ends it for good: no process can serve it."""
        self.error = self.error or DeliveryError(why)
        if self.ready.is_set():
            self.handling.quarantine(why)
            self._services.report_failure(self.subscription, None, why)
        else:
            self.handling.open_failed(why)
        self.finish()

    def finish(self) -> None:
        """Lets go of all that it has: it is over, well or not."""
        self.mailbox.close()
        cause = "quarantine" if self.handling.account.quarantined else "deadline"
        self.handling.drop(cause, len(self._window) + self.mailbox.discard())
        for event in self._window:
            self.handling.done(event)
            self.mailbox.settle()
        self._window.clear()
        self._told = "over"
        self.ready.set()
        self.finished.set()
