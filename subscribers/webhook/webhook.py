"""Tells a web hook when a run has failed, stands still, is no longer finite, or is done."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from ...bus.checks import check_count, check_seconds
from ...bus.diagnostics import get_logger
from ...bus.subscriber import Subscriber
from ...schemas import Event, NonFinite, Resumed, RunFailed, Stalled, TrainBegin, TrainEnd
from ...schemas.errors import ArgumentError, nearest
from .address import HookAddress
from .incidents import Incidents
from .message import DEFAULT_KINDS, KINDS, Kind, Message, Run, message_of, run_of_event
from .outbox import Outbox
from .posting import Posting

log = get_logger()

VARIABLE = "STEPBUS_WEBHOOK_URL"
TIMEOUT_S = 10.0
TRIES = 5
SAME_INCIDENT_S = 600.0
MOST_NAMED = 8


class WebhookCallback(Subscriber):
    """Posts a message to an address when something happens to the run that somebody should know.

    From the sidecar, so that no step waits, and a run whose process was killed is still reported.
    The body is JSON; its `text` and `content` are what Slack, Mattermost and Discord show. One
    message tells of an incident: a loss that is NaN at each step is one, and a stall is told once.

    What is not taken is posted again after 0.5 s, 1 s, ... up to 30 s, until the server answers or,
    once the run has ended, `tries` times; its `id` stays the same, since a server may have taken
    what it did not answer. What it refuses (a status such as 404) is not posted again. What could
    not be posted is named at the end. Nothing of the address but scheme and host is ever shown.

    Args:
        url: an address with https or http; that of the variable STEPBUS_WEBHOOK_URL where None.
        events: of which kinds: "started", "failed", "killed", "stalled", "resumed", "non_finite",
            "finished", "stopped"; all but "started" and "resumed" by default.
        headers: more headers, such as {"Authorization": "Bearer ..."}.
        timeout_s: how long a request may take, s.
        tries: how often a message is posted, in all, once the run has ended.
        same_incident_s: values that are not finite again within so many seconds are no new
            incident.

    Raises:
        ArgumentError: an argument that makes no sense.
        DeliveryError: in `open()`: the host cannot be found.
    """

    prefers_process: ClassVar[bool] = True
    quarantine_after: ClassVar[int] = 1_000_000  # A server that is away for hours comes back.

    def __init__(
        self,
        url: str | None = None,
        *,
        events: Collection[Kind] = DEFAULT_KINDS,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        tries: int = TRIES,
        same_incident_s: float = SAME_INCIDENT_S,
    ) -> None:
        if url is None:
            url = os.environ.get(VARIABLE)
            if not url:
                raise ArgumentError(f"WebhookCallback has no url: give one, or set {VARIABLE}.")
        chosen = [events] if isinstance(events, str) else list(events)
        for kind in chosen:
            if kind not in KINDS:
                raise ArgumentError(f"events has {kind!r}: {nearest(str(kind), KINDS)}")
        if timeout_s is None or tries is None or same_incident_s is None:
            raise ArgumentError("timeout_s, tries and same_incident_s are numbers, not None.")
        check_seconds("timeout_s", timeout_s)
        check_count("tries", tries, 1)
        check_seconds("same_incident_s", same_incident_s)
        self._url = url
        self._headers = dict(headers or {})
        self._address = HookAddress(url, self._headers)
        self._events = chosen
        self._timeout_s = timeout_s
        self._tries = tries
        self._same_incident_s = same_incident_s
        self._outbox: Outbox | None = None
        self._runs: dict[str, Run] = {}
        self._incidents: dict[str, Incidents] = {}
        self._takes_over = False

    @property
    def address(self) -> str:
        """Scheme and host of the address; the rest is a secret."""
        return self._address.shown

    def made_with(self) -> dict[str, Any]:
        """Its arguments, secrets and all: only another process of this run is told."""
        return {
            "url": self._url,
            "headers": self._headers,
            "events": self._events,
            "timeout_s": self._timeout_s,
            "tries": self._tries,
            "same_incident_s": self._same_incident_s,
        }

    def whereabouts(self) -> dict[str, str]:
        """Scheme and host of the address."""
        return {"url": self.address}

    def learn_whereabouts(self, found: Mapping[str, str]) -> None:
        """Notes that its host was found before."""
        self._takes_over = True

    def open(self) -> None:
        """Finds the host; posts nothing."""
        posting = Posting(self._address, self._timeout_s)
        if not self._takes_over:
            posting.look_up()
        self._outbox = Outbox(
            lambda message: posting.start(message.body()), self._tries, self.address
        )

    def caught_up(self) -> float | None:
        """Posts what waits."""
        return self._opened().send()

    def secure(self) -> float | None:
        """Vouches for what came before the first message that waits."""
        return self._outbox.since_s if self._outbox is not None else None

    def on_train_begin(self, event: TrainBegin) -> None:
        """Notes what the run is called."""
        self._runs[event.run_id] = run_of_event(event)
        self._incidents[event.run_id] = Incidents(self._same_incident_s)
        self._opened().at_the_end = False
        if not event.again:
            self._take(event)

    def on_stalled(self, event: Stalled) -> None:
        """Says that the run stands still, and where."""
        self._take(event)

    def on_resumed(self, event: Resumed) -> None:
        """Says that it goes on."""
        self._take(event)

    def on_non_finite(self, event: NonFinite) -> None:
        """Says that a value is not finite, once for an incident."""
        incidents = self._incidents.setdefault(event.run_id, Incidents(self._same_incident_s))
        if incidents.is_new(event):
            self._take(event)

    def on_train_end(self, event: TrainEnd) -> None:
        """Says that the run has finished, or who stopped it and why."""
        self._end(event)

    def on_run_failed(self, event: RunFailed) -> None:
        """Says that the run has failed, and with what."""
        self._end(event)

    def close(self) -> None:
        """Names what was not posted."""
        outbox, self._outbox = self._outbox, None
        if outbox is None:
            return
        left = [*outbox.lost, *(f"{label}: the time was over" for label in outbox.waiting)]
        if left:
            before = f"{len(left) - MOST_NAMED} others, " if len(left) > MOST_NAMED else ""
            log.error(
                f"{type(self).__name__}: not posted to {self.address}: {before}"
                f"{', '.join(left[-MOST_NAMED:])}."
            )

    def _end(self, event: TrainEnd | RunFailed) -> None:
        self._take(event)
        self._runs.pop(event.run_id, None)
        self._incidents.pop(event.run_id, None)
        outbox = self._opened()
        outbox.at_the_end = not self._runs
        outbox.try_at_once()

    def _take(self, event: Event) -> None:
        message: Message | None = message_of(event, self._runs.get(event.run_id, Run()))
        if message is not None and message.kind in self._events:
            self._opened().put(message)

    def _opened(self) -> Outbox:
        assert self._outbox is not None, "open() comes first"
        return self._outbox
