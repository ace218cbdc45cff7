"""Subscribers that misbehave in a real run: it ends as it should, the others are served."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch

from stepbus import Event, EventBus, StepEnd, Subscriber, TrainingRun, Vote
from stepbus.testing import Recorder

if TYPE_CHECKING:
    from tests.engine.conftest import Loop


class Echo(Event):
    name: Literal["hostile_echo"] = "hostile_echo"
    of: int


def test_a_flood_of_votes_acts_once_a_round_and_is_on_the_ledger(loop: Loop) -> None:
    bus = EventBus()
    bus.subscribe("step_end", name="flood")(lambda event: [Vote("log")] * 2000)
    loop.train(bus=bus)
    summary = loop.run.summary
    assert summary is not None
    assert summary.status == "finished"
    row = next(row for row in summary.ledger if row.subscriber == "flood")
    assert row.votes == 2000 * summary.global_step
    acted = [verdict for verdict in loop.verdicts() if verdict.outcome == "acted"]
    assert 1 <= len(acted) <= summary.global_step + 1


def test_events_published_from_within_a_handler_reach_the_others_in_order(loop: Loop) -> None:
    bus = EventBus()
    echoes = Recorder()
    bus.subscribe(Echo)(echoes)
    bus.subscribe("step_end")(lambda event: bus.publish(Echo(of=event.step)))
    loop.train(bus=bus)
    assert loop.run.summary is not None
    steps = list(range(1, loop.run.summary.global_step + 1))
    assert [event.of for event in echoes.events if isinstance(event, Echo)] == steps


def test_a_handler_that_blocks_its_loop_for_a_second_delays_only_its_own_loop(loop: Loop) -> None:
    bus = EventBus()
    served = Recorder()
    bus.subscribe("step_end")(served)

    @bus.subscribe("step_end", once=True, name="blocker")
    async def blocker(event: Any) -> None:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            pass

    started = time.monotonic()
    loop.train(bus=bus)
    assert time.monotonic() - started < 30
    summary = loop.run.summary
    assert summary is not None
    assert (summary.status, summary.undelivered) == ("finished", 0)
    assert len(served.events) == summary.global_step
    row = next(row for row in summary.ledger if row.subscriber == "blocker")
    assert (row.handled, row.handler_s >= 1.0) == (1, True)


def test_a_vote_for_a_run_that_is_not_entered_yet_goes_to_no_other(
    new_loop: Callable[..., Loop],
) -> None:
    bus = EventBus()
    waiting, other = new_loop("waiting"), new_loop("other")
    with bus:
        run = TrainingRun(
            waiting.arguments(), model=waiting.model, optimizer=waiting.optimizer, bus=bus
        )
        assert run.vote("stop", reason="for this one alone")
        other.train(bus=bus)
        assert other.run.summary is not None
        assert other.run.summary.status == "finished"
        with run:
            for batch in run.steps(waiting.loader):
                loss = torch.nn.functional.mse_loss(waiting.model(batch["x"]), batch["y"])
                loss.backward()  # type: ignore[no-untyped-call]
                waiting.optimizer.step()
                run.end_step()
    assert run.summary is not None
    assert (run.summary.global_step, run.summary.reason) == (1, "for this one alone")


def test_a_voted_action_that_fails_has_a_verdict(loop: Loop) -> None:
    bus = EventBus()
    bus.vote("evaluate", reason="please", voter="somebody")

    def fails() -> dict[str, float]:
        raise ZeroDivisionError("no data")

    with pytest.raises(ZeroDivisionError):
        loop.train(bus=bus, evaluate=fails)
    (verdict,) = loop.verdicts()
    assert (verdict.outcome, verdict.votes[0].voter) == ("refused", "somebody")
    assert "ZeroDivisionError: no data" in verdict.detail


@pytest.mark.slow
def test_one_that_never_returns_leaves_the_others_time_to_close(loop: Loop) -> None:
    """Teardown of 0.8 s, beside one that hangs for all of the 8 s that there are."""
    forever, closed = threading.Event(), []

    class Hangs(Subscriber):
        def on_step_end(self, event: StepEnd) -> None:
            forever.wait()

    class ClosesForLong(Subscriber):
        def on_step_end(self, event: StepEnd) -> None: ...

        def close(self) -> None:
            time.sleep(0.8)
            closed.append(True)

    try:
        loop.train(callbacks=[Hangs, ClosesForLong], drain_timeout_s=8)
        assert closed
        assert loop.run.summary is not None
        rows = {row.subscriber: row for row in loop.run.summary.ledger}
        assert not rows["ClosesForLong"].trouble
        assert rows["Hangs"].trouble
    finally:
        forever.set()
