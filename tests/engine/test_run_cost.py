"""What the ledger says of a run: its steps, log rounds, votes, waits at the end."""

from stepbus import Ledger, RunCost

from .conftest import Loop


def cost_of(ledger: Ledger) -> RunCost:
    assert ledger.run is not None
    return ledger.run


def test_every_step_is_counted_and_has_a_cost(loop: Loop) -> None:
    seen: list[int] = []
    loop.in_step = lambda loop: seen.append(cost_of(loop.run.ledger).steps)
    loop.train(max_steps=8)
    cost = cost_of(loop.run.ledger)
    assert seen == list(range(8)), "read while it runs, it has the steps that have ended"
    assert cost.steps == 8
    assert (cost.run_id, cost.attempt) == (loop.run.run_id, 1)
    assert 0 < cost.mean_us <= cost.max_us
    assert 0 < cost.p99_us <= cost.max_us
    assert cost.log_s == 0


def test_log_rounds_are_part_of_a_step_and_told_apart(loop: Loop) -> None:
    loop.train(max_steps=4, logging_strategy="steps", logging_steps=1)
    cost = cost_of(loop.run.ledger)
    assert 0 < cost.log_s < cost.bus_s


def test_votes_and_what_came_of_them(loop: Loop) -> None:
    loop.in_step = lambda loop: (
        loop.steps_done == 2
        and (
            loop.run.vote("save", voter="a"),
            loop.run.vote("evaluate", voter="b"),
        )
    )
    loop.train(max_steps=4)
    cost = cost_of(loop.run.ledger)
    assert cost.votes == 2
    assert cost.verdicts == {"acted": 1, "refused": 1}, "the loop has no means to evaluate"
    assert cost.drains >= 2
    assert cost.drain_s > 0


def test_the_ledger_of_a_run_that_is_over_stays_as_it_was(loop: Loop) -> None:
    loop.train(max_steps=3)
    summary = loop.run.summary
    assert summary is not None
    assert loop.run.ledger == summary.ledger
    assert summary.ledger["Recorder"].handled == len(loop.recorder.events)
    assert summary.ledger["DefaultFlowCallback"].delivery == "gate"
    assert [run.steps for run in summary.ledger.runs] == [3]
