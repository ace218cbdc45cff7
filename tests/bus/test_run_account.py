"""What stepbus cost a run: steps summed up in batches, waits by cause, votes."""

import statistics
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.bus import EventBus
from stepbus.bus.run_account import BOUNDS_S, QUARTER, RunAccount
from stepbus.schemas import TrainerState, Vote

seconds = st.floats(0.0, 200.0, allow_nan=False)


@given(batches=st.lists(st.lists(seconds, max_size=50), max_size=5))
def test_mean_dearest_and_99_of_100_are_those_of_all_steps(batches: list[list[float]]) -> None:
    account = RunAccount()
    for batch in batches:
        for step_s in batch:
            account.note_step(step_s)
        account.sum_up()
    steps = sorted(step_s for batch in batches for step_s in batch)
    cost = account.cost("a", 2)
    assert (cost.run_id, cost.attempt, cost.steps) == ("a", 2, len(steps))
    if not steps:
        assert (cost.mean_us, cost.p99_us, cost.max_us) == (0.0, 0.0, 0.0)
        return
    assert cost.mean_us == pytest.approx(1e6 * statistics.fmean(steps))
    assert cost.max_us == pytest.approx(1e6 * steps[-1])
    exact = steps[-(len(steps) // 100) - 1]  # No more than one in a hundred is above it.
    least = min(exact, BOUNDS_S[0])
    assert max(exact, least) <= cost.p99_us / 1e6 * (1 + 1e-9)
    assert cost.p99_us / 1e6 <= max(exact, BOUNDS_S[0]) * QUARTER * (1 + 1e-9)


def test_steps_are_counted_once_while_others_read() -> None:
    account = RunAccount()
    ended = threading.Event()
    reads = []

    def read() -> None:
        while not ended.is_set():
            reads.append(account.cost("a", 1).steps)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(20_000):
        account.note_step(1e-5)
    ended.set()
    for reader in readers:
        reader.join(30)
    cost = account.cost("a", 1)
    assert cost.steps == 20_000
    assert cost.bus_s == pytest.approx(0.2)
    assert all(0 <= steps <= 20_000 for steps in reads)


def test_waits_are_kept_by_what_needed_the_values() -> None:
    account = RunAccount()
    account.waited("evaluate", 0.5, values=3)
    account.waited("save", 0.25)
    account.waited("evaluate", 0.5)
    account.drained(2.0)
    cost = account.cost("a", 1)
    assert cost.waits == {"evaluate": 4, "save": 1}
    assert cost.wait_s == {"evaluate": 1.0, "save": 0.25}
    assert (cost.drains, cost.drain_s) == (1, 2.0)


def test_votes_are_counted_without_the_schedule(bus: EventBus) -> None:
    bus.vote("save")
    link = bus.open_run(TrainerState())
    link.votes.post(Vote("log"), scheduled=True)
    bus.vote("stop", reason="enough")
    run = bus.ledger.run
    assert run is not None
    assert run.votes == 2


def test_each_open_run_has_its_own_account(bus: EventBus) -> None:
    links = [bus.open_run(TrainerState(), run_id=name) for name in ("a", "b")]
    for number, link in enumerate(links, 1):
        for _ in range(number):
            link.account.note_step(1e-3)
    assert {run.run_id: run.steps for run in bus.ledger.runs} == {"a": 1, "b": 2}
    assert [run.run_id for run in bus.ledger_of(links[1]).runs] == ["b"]
    bus.close_run(links[1])
    closed = bus.ledger_of(links[1]).run
    assert closed is not None
    assert closed.steps == 2
    assert [run.run_id for run in bus.ledger.runs] == ["a"]
