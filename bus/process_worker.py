"""Delivery `process`: what the trainer's process keeps of a subscriber that lives in another.

Its events wait in the mailbox, are sent in batches of a bounded number, and are kept until the
process says that they are dealt with: what was sent to a process that died is sent again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..schemas import Measured, Vote
from ..schemas.errors import DeliveryError
from .diagnostics import get_logger
from .handling import Handling, Services
from .mailbox import LOSSY, Mailbox
from .sidecar.accounting import Reported
from .sidecar.beginnings import Beginnings
from .sidecar.deaths import MOST_TIMED_OUT
from .sidecar.holds import Holds
from .sidecar.messages import Message, encode
from .sidecar.sent_states import SentHistories, SentStates
from .sidecar.window import Window
from .subscriber import Subscriber
from .subscription import Subscription

log = get_logger()


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
        self._window = Window(subscription.sent, subscription.options.overflow)
        self._votes: set[tuple[int, int]] = set()
        self._holds = Holds()
        self._beginnings = Beginnings()
        self._whereabouts: dict[str, str] = {}
        self._states = SentStates(number, SentHistories())
        self._reported = Reported(subscription.account)
        self._in_a_row = 0
        self.abandoned = False
        """Whether what waits is to be dropped."""
        self.is_left = False
        """Whether its process is to let go of it wherever it stands."""
        self.timed_out = ""
        """What has taken too long in the present process; empty while nothing has."""
        self._num_timed_out = 0
        self.unwanted = False
        """Whether its process is to be killed: its time is over."""
        self._told = ""

    def abandon(self) -> None:
        """Stops handling: what still waits is counted as dropped. From any thread."""
        self.abandoned = True
        self.mailbox.close()
        self.wake()

    def leave(self) -> None:
        """Has its process let go of it, though its set-up has not returned. From any thread."""
        self.is_left = True
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
        self._window.begin()
        self._states = SentStates(self.number, histories)
        again = self._beginnings.again()
        self._told = "open"
        self.timed_out = ""
        self._reported.begin(self._window.begins, len(again))
        self.phase = "open()"
        options = self.subscription.options
        opening = encode(
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
            at=self._window.begins - len(again),
            whereabouts=self._whereabouts,
        )
        return opening + self._states.lines_of(again, again=True)

    def next_lines(self) -> bytes:
        """What the process is to be sent now; empty where there is nothing."""
        if self.abandoned and self._told == "close":
            # It may be in a handler that heeds this.
            self._told = "abandon"
            return encode("abandon", to=self.number)
        if self._told != "open":
            return b""
        if self.handling.account.quarantined or self.abandoned:
            self._drop_mail()
        elif self.mailbox.overflow not in LOSSY or self.phase == "handlers":
            # What may be dropped stays in the mailbox until there is somebody to take it.
            self._fill_window()
        if self.abandoned:
            self._told = "abandon"
            return encode("abandon", to=self.number)
        unsent = self._window.send()
        if unsent:
            self.handling.event = self._window.first
            return self._states.lines_of(unsent)
        if self.mailbox.closed and not len(self.mailbox) and self._window.is_sent:
            self._told = "close"
            self._note_closing()
            return encode("close", to=self.number)
        return b""

    @property
    def has_more(self) -> bool:
        """Whether `next_lines` has something to say at once."""
        if self._told != "open":
            return False
        return self._window.has_unsent or (self.mailbox.can_take and self._window.has_room)

    def _fill_window(self) -> None:
        while self._window.has_room:
            event = self.mailbox.take()
            if event is None:
                if not self.mailbox.can_read_on:
                    return
                self.mailbox.read_on()
                continue
            self._window.add(event)

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
        elif kind == "measured":
            self._take_measured(message)
        elif kind == "failed":
            event = self._window.at(message["at"])
            self._services.report_failure(self.subscription, event, message["error"])
        elif kind == "ready":
            self._note_ready(message["error"])
        elif kind == "whereabouts":
            self._learn_whereabouts(message["found"])
        elif kind == "timed_out":
            self._note_timed_out(message["error"], message["stack"])
        elif kind == "held":
            self._holds.hold(message["at"], message["holder"], self._window.at(message["at"]))
        elif kind == "released":
            self._holds.release(message["at"], message["holder"])
        elif kind == "closed":
            self.finish()

    def _note_closing(self) -> None:
        if self._told == "close" and not self._window:
            self.phase = "close()"

    def _learn_whereabouts(self, found: dict[str, str]) -> None:
        self._whereabouts = found
        target = self.subscription.target
        if isinstance(target, Subscriber):
            try:
                target.learn_whereabouts(found)
            except Exception as error:
                # The thread that feeds all of them runs this.
                log.error(f"{self.subscription.name}.learn_whereabouts() failed: {error!r}")

    def _note_ready(self, error: str | None) -> None:
        if error is not None and self.error is None:
            self.error = DeliveryError(error)
            self.handling.open_failed(f"open() failed: {error}")
        if self.phase == "open()":
            self.phase = "handlers"
        self.ready.set()

    def _note_timed_out(self, error: str, stack: str) -> None:
        self.timed_out = error
        self._num_timed_out += 1
        if self.may_start_again:
            self.handling.account.failures += 1
            log.error(
                f"subscriber {self.subscription.name}: {error}; it is left behind and goes on in a "
                f"process of its own ({self._num_timed_out} of {MOST_TIMED_OUT}). It stands at\n"
                f"{stack}"
            )
            self._services.report_failure(self.subscription, self.handling.event, error)

    @property
    def may_start_again(self) -> bool:
        """Whether it has not timed out too often."""
        return self._num_timed_out <= MOST_TIMED_OUT

    def _post(self, message: Message) -> None:
        at = message["at"]
        event = self._window.at(at)
        if at is not None:
            # Handled twice, after the death of a process, its votes count once.
            if event is None or (at, message["index"]) in self._votes:
                return
            self._votes.add((at, message["index"]))
        self._services.post(Vote(**message["vote"]), event)

    def _take_measured(self, message: Message) -> None:
        event = self._window.at(message["at"])
        if event is not None:
            measured = Measured(message["values"])
            self._services.measured(measured, event, self.subscription.name)

    def _settle_until(self, position: int) -> None:
        for event in self._window.settle_until(position):
            self._beginnings.saw(event)
            self.handling.done(event)
            self.mailbox.settle()
        self.handling.event = self._window.first
        self._note_closing()
        if self._votes:
            self._votes = {vote for vote in self._votes if vote[0] >= self._window.begins}

    def outlived_process(self) -> int:
        """Notes that the process has died; how often that has happened before it got on."""
        idle = self.phase == "handlers" and not self._window
        if self._window.got_on or idle:
            self._in_a_row = 0
        else:
            self._in_a_row += 1
        self._window.go_slowly()
        self._holds.release_all()
        return self._in_a_row

    # Its end

    def give_up(self, why: str) -> None:
        """Ends it for good: no process can serve it."""
        self.error = self.error or DeliveryError(why)
        if self.ready.is_set():
            self.handling.given_up(why)
        else:
            self.handling.open_failed(why)
        self.finish()

    def finish(self) -> None:
        """Lets go of all that it has: it is over, well or not."""
        self.mailbox.close()
        cause = "quarantine" if self.handling.account.quarantined else "deadline"
        self.handling.drop(cause, len(self._window) + self.mailbox.discard())
        for event in self._window.clear():
            self.handling.done(event)
            self.mailbox.settle()
        self._told = "over"
        self._holds.release_all()
        self.ready.set()
        self.finished.set()
