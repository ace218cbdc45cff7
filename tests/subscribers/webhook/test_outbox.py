"""Messages leave in order, each taken once or named as lost, whatever the server does."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus import DeliveryError
from stepbus.subscribers.webhook.message import Message
from stepbus.subscribers.webhook.outbox import MOST_KEPT, STALE_S, Attempt, Outbox
from stepbus.subscribers.webhook.posting import NoAnswer, Refused


class Server:
    """Does what it is told with each request, and takes what comes when it is told nothing."""

    def __init__(self, *plan: Exception | None) -> None:
        self.plan = list(plan)
        self.taken: list[int] = []
        self.requests = 0
        self.hangs = False
        """Whether the requests that it has got are not answered yet."""
        self.now = 100.0

    def start(self, message: Message) -> Attempt:
        self.requests += 1
        return Asked(self, message.step)


class Asked:
    """A request; what is done with it is decided when it is answered."""

    def __init__(self, server: Server, step: int) -> None:
        self._server = server
        self._step = step

    def wait(self, seconds: float) -> bool:
        return not self._server.hangs

    def result(self) -> None:
        answer = self._server.plan.pop(0) if self._server.plan else None
        if answer is not None:
            raise answer
        self._server.taken.append(self._step)


def outbox_of(server: Server, tries: int = 3) -> Outbox:
    return Outbox(server.start, tries, "https://h/***", lambda: server.now)


def send_patiently(outbox: Outbox, server: Server) -> None:
    while (delay := outbox.send()) is not None:
        server.now += delay


def message(step: int) -> Message:
    return Message(str(step), "stalled", step, "", {})


def test_a_server_that_is_away_is_tried_less_and_less_often_and_gets_all() -> None:
    server = Server(*[NoAnswer("away")] * 9)
    outbox = outbox_of(server)
    outbox.put(message(1))
    delays = []
    while (delay := outbox.send()) is not None:
        assert outbox.send() == delay, "it is left alone until then"
        delays.append(delay)
        server.now += delay
        outbox.put(message(1 + len(delays)))
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert server.taken == list(range(1, 11))
    assert (outbox.since_s, outbox.lost) == (None, [])


def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    outbox = outbox_of(Server(NoAnswer("busy", 7.0)))
    outbox.put(message(1))
    assert outbox.send() == 7.0


def test_at_the_end_it_is_tried_a_few_times_more_and_then_named() -> None:
    server = Server(*[NoAnswer("away")] * 20)
    outbox = outbox_of(server, tries=3)
    for step in (1, 2):
        outbox.put(message(step))
    assert outbox.send() is not None
    outbox.at_the_end = True
    outbox.try_at_once()
    while_away = server.requests
    with pytest.raises(DeliveryError, match=r"stalled \(step 1\): away, stalled \(step 2\): away"):
        send_patiently(outbox, server)
    assert server.requests - while_away == 3
    assert outbox.lost == ["stalled (step 1): away", "stalled (step 2): away"]
    assert outbox.send() is None, "it is said once"


def test_a_request_that_hangs_keeps_nobody_and_is_made_anew_when_the_run_ends() -> None:
    server = Server()
    outbox = outbox_of(server)
    server.hangs = True
    outbox.put(message(1))
    for _ in range(3):
        assert outbox.send() == 0.0
        outbox.put(message(2))
        server.now += STALE_S
    assert server.requests == 1
    outbox.at_the_end = True
    outbox.try_at_once()
    assert outbox.send() == 0.0
    assert server.requests == 2
    server.now += 2 * STALE_S
    assert outbox.send() == 0.0
    assert server.requests == 2, "this one was begun at the end"
    assert outbox.waiting == ["stalled (step 1)", *["stalled (step 2)"] * 3]
    server.hangs = False
    assert outbox.send() is None
    assert server.taken == [1, 2, 2, 2]


def test_the_oldest_is_given_up_where_too_many_wait() -> None:
    server = Server()
    outbox = outbox_of(server)
    for step in range(MOST_KEPT + 2):
        outbox.put(message(step))
    with pytest.raises(DeliveryError, match=r"stalled \(step 1\): too many waited"):
        outbox.send()
    assert server.taken == list(range(2, MOST_KEPT + 2))


ANSWERS = st.sampled_from([None, "away", "refused"])


@given(plan=st.lists(ANSWERS, max_size=30), arrivals=st.lists(st.integers(0, 3), max_size=15))
def test_each_is_taken_in_order_or_lost_and_what_is_collected_is_not_vouched_for(
    plan: list[str | None], arrivals: list[int]
) -> None:
    errors = {"away": NoAnswer("away"), "refused": Refused("no")}
    server = Server(*[errors[answer] if answer is not None else None for answer in plan])
    outbox, put = outbox_of(server), 0
    for num in [*arrivals, *[0] * (len(plan) + 1)]:
        for _ in range(num):
            outbox.put(message(put))
            put += 1
        with contextlib.suppress(DeliveryError):
            outbox.send()
        assert (outbox.since_s is None) == (not outbox.waiting)
        server.now += 60.0
    lost = [int(named.partition("step ")[2].partition(")")[0]) for named in outbox.lost]
    assert not outbox.waiting
    assert sorted([*server.taken, *lost]) == list(range(put))
    assert server.taken == sorted(server.taken)
    assert lost == sorted(lost)
