"""Votes of those who listen concurrently, from threads, files and before the run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from stepbus import EventBus, Subscriber, TrainerCallback, Vote, VotePolicy

if TYPE_CHECKING:
    from tests.engine.conftest import Loop


class Asks(Subscriber):
    """Votes at one event, and lets the training thread know that it has."""

    def __init__(self, event: str, step: int, *votes: Vote) -> None:
        self._event, self._step, self._votes = event, step, votes
        self.asked = threading.Event()

    def on_event(self, event: Any) -> list[Vote] | None:
        if (event.name, event.step) == (self._event, self._step):
            return list(self._votes)
        if event.step > self._step:
            self.asked.set()
        return None

    def wait(self, loop: Loop) -> None:
        """Holds up the loop so that the vote arrives one step after the event."""
        if loop.steps_done == self._step:
            loop.run.bus.flush(10)


def test_both_steps_of_a_concurrent_vote_are_on_record(loop: Loop) -> None:
    asks = Asks("step_end", 3, Vote("save", reason="why not"))
    loop.in_step = asks.wait
    loop.train(callbacks=[asks])
    (verdict,) = loop.verdicts()
    assert (verdict.action, verdict.outcome, verdict.point) == ("save", "acted", "step_end")
    assert (verdict.seen_at, verdict.acted_at) == (3, 4)
    (vote,) = verdict.votes
    assert (vote.voter, vote.reason, vote.step) == ("Asks", "why not", 3)
    assert verdict.detail.endswith("checkpoint-4")
    assert loop.saved_steps() == [4]


def test_a_veto_spends_the_vote_and_the_verdict_names_both(loop: Loop) -> None:
    against = Vote("stop", against=True, reason="still improving", voter="hope")
    asks = Asks("step_end", 2, Vote("stop", reason="bored"), against)
    loop.in_step = asks.wait
    loop.train(callbacks=[asks])
    (verdict,) = loop.verdicts()
    assert (verdict.outcome, verdict.detail) == ("vetoed", "still improving")
    assert [vote.reason for vote in verdict.votes] == ["bored"]
    assert [vote.voter for vote in verdict.vetoes] == ["hope"]
    assert loop.steps_done == 12


def test_a_quorum_waits_for_the_voters_it_names(loop: Loop) -> None:
    policy = VotePolicy(rule="all", voters=("one", "other"))

    def vote(loop: Loop) -> None:
        if loop.steps_done in (2, 6):
            loop.run.vote("stop", voter="one" if loop.steps_done == 2 else "other")

    loop.in_step = vote
    loop.train(bus=EventBus(policies={"stop": policy}))
    assert loop.steps_done == 7


def test_an_expired_vote_is_on_record(loop: Loop) -> None:
    policy = VotePolicy(rule="all", voters=("one", "other"))

    def vote(loop: Loop) -> None:
        if loop.steps_done == 2:
            loop.run.vote(Vote("stop", voter="one", step=2, expires_after_steps=3))

    loop.in_step = vote
    loop.train(bus=EventBus(policies={"stop": policy}))
    (verdict,) = loop.verdicts()
    assert (verdict.outcome, verdict.seen_at, verdict.acted_at) == ("expired", 2, 6)


def test_an_evaluation_without_the_means_is_refused_by_a_verdict(loop: Loop) -> None:
    loop.in_step = lambda loop: loop.run.vote("evaluate", voter="me") if not loop.steps_done else 0
    loop.train()
    (verdict,) = loop.verdicts()
    assert (verdict.outcome, verdict.acted_at) == ("refused", 1)
    assert "evaluate=" in verdict.detail


def test_a_vote_cast_before_the_run_waits_for_it(loop: Loop) -> None:
    with EventBus() as bus:
        bus.vote("save", voter="early", reason="try it")
        loop.train(bus=bus)
    assert loop.saved_steps() == [1]
    assert [vote.voter for vote in loop.verdicts()[0].votes] == ["early"]


def test_a_stop_does_not_latch_into_the_next_run_on_the_same_bus(
    new_loop: Callable[..., Loop],
) -> None:
    class Stops(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            control.should_training_stop = True

        on_train_end = on_step_end

    with EventBus() as bus:
        first = new_loop("first").train(bus=bus, callbacks=[Stops])
        assert not first.run.vote("stop")
        second = new_loop("second").train(bus=bus)
    assert (first.steps_done, second.steps_done) == (1, 12)
    assert [verdict.outcome for verdict in first.verdicts()] == ["acted", "late"]
    assert not second.verdicts()


def test_votes_from_another_thread(loop: Loop) -> None:
    def vote_in_thread(loop: Loop) -> None:
        if loop.steps_done == 4:
            thread = threading.Thread(target=lambda: loop.run.vote("stop", reason="enough"))
            thread.start()
            thread.join()

    loop.in_step = vote_in_thread
    loop.train()
    assert loop.steps_done == 5
    (end,) = loop.recorder.of("train_end")
    assert (end.status, end.reason, end.stopped_by) == ("stopped", "enough", "vote()")


def test_votes_as_files_get_their_verdict(loop: Loop) -> None:
    votes = loop.output_dir / "votes"
    votes.mkdir(parents=True)
    (votes / "save").touch()
    (votes / "ask.json").write_text(json.dumps({"action": "evaluate", "reason": "curious"}))
    files = votes / "done"

    def wait_for_the_files(loop: Loop) -> None:
        while len(list(files.glob("*.json"))) < 2:
            loop.run.bus.flush(1)

    loop.in_step = wait_for_the_files
    loop.train()
    verdicts = {
        record["action"]: record["verdict"]
        for record in (json.loads(path.read_text()) for path in files.glob("*.json"))
    }
    assert verdicts["save"]["outcome"] == "acted"
    assert verdicts["save"]["acted_at"] == 1
    assert verdicts["evaluate"]["outcome"] == "refused"
    assert loop.saved_steps() == [1]


@pytest.mark.parametrize(("action", "name"), [("save", "save"), ("log", "log")])
def test_a_vote_that_arrives_while_mailboxes_are_drained_still_acts(
    loop: Loop, action: str, name: str
) -> None:
    loop.train(callbacks=[Asks("step_end", 12, Vote(action))])
    (verdict,) = loop.verdicts()
    assert (verdict.outcome, verdict.acted_at) == ("acted", 12)
    assert verdict.point in ("epoch_end", "train_end")
    names = loop.recorder.names()
    assert names.index(name) < names.index("train_end")


def test_a_stop_voted_during_an_evaluation_abandons_it(loop: Loop) -> None:
    seen: list[int] = []

    def swallow() -> dict[str, float]:
        for number, _ in enumerate(loop.run.evaluation_steps(loop.loader)):
            seen.append(number)
            if number == 2:
                loop.run.vote("stop", reason="now")
        return {"loss": 0.0}

    loop.train(evaluate=swallow, eval_strategy="steps", eval_steps=5, save_strategy="epoch")
    assert seen == [0, 1, 2]
    assert loop.steps_done == 5
    assert not loop.recorder.of("evaluate")
    # The epoch that the stop cut short still ends, with what is due then.
    assert loop.saved_steps() == [5]


def test_an_abandoned_evaluation_is_no_result_even_if_the_loop_swallows_it(loop: Loop) -> None:
    def evaluate() -> dict[str, float]:
        try:
            for _ in loop.run.evaluation_steps(loop.loader):
                loop.run.vote("stop")
        except BaseException:
            return {"loss": -1.0}
        return {"loss": 0.0}

    loop.train(evaluate=evaluate, eval_strategy="steps", eval_steps=5)
    assert not loop.recorder.of("evaluate")
    assert loop.run.state.log_history[-1]["train_loss"] > 0


def test_a_vetoed_stop_abandons_no_evaluation(loop: Loop) -> None:
    def evaluate() -> dict[str, float]:
        loop.run.vote("stop", voter="one")
        loop.run.vote("stop", voter="other", against=True)
        return {"batches": float(len(list(loop.run.evaluation_steps(loop.loader))))}

    loop.train(evaluate=evaluate, eval_strategy="steps", eval_steps=6)
    assert [event.metrics["eval_batches"] for event in loop.recorder.of("evaluate")] == [6.0, 6.0]


def test_a_stop_during_the_evaluation_at_the_start_trains_no_step(loop: Loop) -> None:
    def evaluate() -> dict[str, float]:
        loop.run.vote("stop")
        return {"batches": float(len(list(loop.run.evaluation_steps(loop.loader))))}

    loop.train(evaluate=evaluate, eval_strategy="epoch", eval_on_start=True)
    assert (loop.steps_done, loop.recorder.of("evaluate")) == (0, [])
    assert loop.recorder.of("train_end")[0].status == "stopped"
