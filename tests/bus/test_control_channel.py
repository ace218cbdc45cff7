"""Votes: what they come to, when they lapse, and that none is lost and none latches."""

import itertools
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.bus import ControlChannel, EventBus, RunControl
from stepbus.bus.testing import FakeClock, Recorder, ScriptedVotes
from stepbus.schemas import (
    ACTIONS,
    Action,
    BusClosedError,
    StepEnd,
    TrainerState,
    Verdict,
    Vote,
    VotePolicy,
)

MakeBus = Callable[..., EventBus]
NAMES = ("ann", "ben", "cleo", "dan")


def a_run(**policies: VotePolicy) -> RunControl:
    chosen: Mapping[Any, VotePolicy] = policies
    return ControlChannel(FakeClock(), chosen).open("run")


ONE_EACH = st.lists(st.sampled_from(NAMES), unique=True).flatmap(
    lambda names: st.tuples(
        *(
            st.builds(
                Vote,
                st.just("stop"),
                voter=st.just(name),
                against=st.booleans(),
                critical=st.sampled_from([False, False, False, True]),
            )
            for name in names
        )
    )
)
POLICIES = st.sampled_from(
    [
        VotePolicy(),
        VotePolicy(voters=("ann", "ben")),
        VotePolicy(rule="all", voters=("ann", "ben")),
        VotePolicy(rule="quorum", voters=("ann", "ben", "cleo"), count=2),
        VotePolicy(rule="fraction", voters=("ann", "ben", "cleo", "dan"), fraction=0.5),
    ]
)


def result(control: RunControl) -> Any:
    outcome = control.decide("stop", 0)
    return None if outcome is None else outcome.decision


@given(ONE_EACH, POLICIES, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(
    votes: tuple[Vote, ...], policy: VotePolicy, random: Any
) -> None:
    plain, shuffled = a_run(stop=policy), a_run(stop=policy)
    for vote in votes:
        plain.post(vote)
    again = [*votes, *votes]
    random.shuffle(again)
    for vote in again:
        shuffled.post(vote)
    assert result(plain) == result(shuffled)


@given(
    st.lists(
        st.builds(
            Vote,
            st.just("stop"),
            voter=st.sampled_from(NAMES),
            against=st.booleans(),
            withdrawn=st.sampled_from([False, False, True]),
            critical=st.sampled_from([False, False, False, False, True]),
        ),
        max_size=12,
    ),
    POLICIES,
)
def test_votes_cast_one_by_one_come_to_what_the_naive_model_says(
    votes: list[Vote], policy: VotePolicy
) -> None:
    control = a_run(stop=policy)
    newest: dict[str, Vote] = {}
    critical = set()
    for vote in votes:
        control.post(vote)
        if vote.withdrawn:
            newest.pop(vote.voter, None)
        elif vote.critical and not vote.against:
            critical.add(vote.voter)
        else:
            newest[vote.voter] = vote
    asking = {v.voter for v in newest.values() if not v.against}
    counted = asking & set(policy.voters) if policy.voters else asking
    enough = bool(counted) and len(counted) >= policy.needed
    vetoed = any(v.against for v in newest.values())
    decision = result(control)
    if critical or (enough and not vetoed):
        assert decision.carried
        assert not decision.vetoed
    elif enough:
        assert (decision.carried, decision.vetoed) == (False, True)
    else:
        assert decision is None
    assert control.has_votes == (decision is None and bool(newest))


def test_what_acted_is_spent_and_a_vetoed_vote_too() -> None:
    control = a_run()
    control.post(Vote("save", voter="ann"))
    assert result_of(control, "save").carried
    assert control.decide("save", 0) is None
    control.post(Vote("save", voter="ann"))
    control.post(Vote("save", voter="ben", against=True, reason="the disk is full"))
    vetoed = result_of(control, "save")
    assert (vetoed.carried, vetoed.vetoed) == (False, True)
    assert [v.voter for v in vetoed.votes] == ["ann"]
    assert [v.voter for v in vetoed.vetoes] == ["ben"]
    assert control.decide("save", 0) is None
    assert not control.has_votes


def result_of(control: RunControl, action: Action, step: int = 0) -> Any:
    outcome = control.decide(action, step)
    assert outcome is not None
    return outcome.decision


def test_votes_under_a_quorum_stand_until_there_are_enough() -> None:
    control = a_run(stop=VotePolicy(rule="quorum", voters=("ann", "ben", "cleo"), count=2))
    control.post(Vote("stop", voter="ann"))
    control.post(Vote("stop", voter="a stranger"))
    assert control.decide("stop", 1) is None
    control.post(Vote("stop", voter="cleo"))
    assert [v.voter for v in result_of(control, "stop", 2).votes] == ["ann", "cleo"]


def test_the_newest_vote_of_a_voter_counts() -> None:
    control = a_run()
    control.post(Vote("stop", voter="ann", reason="first"))
    control.post(Vote("stop", voter="ann", reason="second"))
    assert [v.reason for v in result_of(control, "stop").votes] == ["second"]
    control.post(Vote("stop", voter="ann"))
    control.post(Vote("stop", voter="ann", against=True))
    assert control.decide("stop", 0) is None, "a lone veto has nothing to veto"


def test_a_withdrawn_vote_is_as_if_never_cast() -> None:
    control = a_run()
    vote = Vote("save", voter="ann")
    control.post(vote)
    control.post(vote.withdraw())
    assert not control.has_votes
    assert control.decide("save", 0) is None


def test_votes_for_different_actions_are_apart() -> None:
    control = a_run()
    for action in ACTIONS:
        control.post(Vote(action, voter="ann"))
    for action in ACTIONS:
        assert result_of(control, action).carried
    assert not control.has_votes


@pytest.mark.parametrize(
    ("cast_at", "lasts", "asked_at", "stands"),
    [
        (10, 5, 15, True),
        (10, 5, 16, False),
        (0, 1, 1, True),
        (0, 1, 2, False),
    ],
)
def test_a_vote_lapses_after_its_steps(
    cast_at: int, lasts: int, asked_at: int, stands: bool
) -> None:
    for step in (cast_at, None):
        control = a_run()
        control.step = cast_at
        settled: list[Any] = []
        control.post(
            Vote("save", voter="ann", step=step, expires_after_steps=lasts), settle=settled.append
        )
        assert control.wants("save", asked_at) == stands
        assert (control.decide("save", asked_at) is not None) == stands
        assert not control.has_votes
        assert [verdict["outcome"] for verdict in settled] == ([] if stands else ["expired"])
        assert len(control.expired) == (0 if stands else 1)


def test_a_vote_lapses_after_its_seconds() -> None:
    clock = FakeClock()
    control = ControlChannel(clock).open("run")
    control.post(Vote("save", voter="ann", expires_after_s=60))
    clock.advance(60)
    assert control.wants("save", 0)
    clock.advance(0.5)
    assert not control.wants("save", 0)
    assert control.decide("save", 0) is None


def test_asking_whether_spends_nothing() -> None:
    control = a_run()
    control.post(Vote("stop", voter="ann"))
    assert control.wants("stop", 0)
    assert control.wants("stop", 0)
    assert result_of(control, "stop").carried
    assert not control.wants("stop", 0)


def test_the_schedule_acts_whatever_the_policy_and_a_veto_stops_it() -> None:
    policy = VotePolicy(rule="all", voters=("ann", "ben"))
    control = a_run(save=policy)
    control.post(Vote("save", voter="flow"), scheduled=True)
    assert control.wants("save", 0)
    outcome = control.decide("save", 0)
    assert outcome is not None
    assert outcome.decision.carried
    assert outcome.scheduled
    control.post(Vote("save", voter="flow"), scheduled=True)
    control.post(Vote("save", voter="ben", against=True))
    outcome = control.decide("save", 0)
    assert outcome is not None
    assert outcome.decision.vetoed
    assert not outcome.scheduled
    control.post(Vote("save", voter="flow"), scheduled=True)
    control.post(Vote("save", voter="ben", against=True))
    control.post(Vote("save", voter="ann", critical=True))
    assert result_of(control, "save").carried


def test_who_waits_for_a_vote_is_told_what_came_of_it() -> None:
    control = a_run()
    told: dict[str, list[str]] = {"old": [], "new": [], "back": []}
    old, new = Vote("save", voter="ann", reason="old"), Vote("save", voter="ann")
    control.post(old, settle=lambda verdict: told["old"].append(verdict["detail"]))
    control.post(new, settle=lambda verdict: told["new"].append(verdict["detail"]))
    control.post(new.withdraw(), settle=lambda verdict: told["back"].append(verdict["detail"]))
    assert told == {
        "old": ["replaced by a newer vote by this voter"],
        "new": ["withdrawn by this voter"],
        "back": ["withdrew the vote"],
    }


def test_what_is_left_at_the_end_comes_back_and_later_votes_are_refused() -> None:
    channel = ControlChannel(FakeClock())
    control = channel.open("run")
    control.post(Vote("save", voter="ann"))
    control.post(Vote("log", voter="flow"), scheduled=True)
    assert [cast.vote.voter for cast in channel.close("run")] == ["ann"]
    assert not control.post(Vote("save", voter="ann"))
    assert not channel.post(Vote("save", voter="ann"), run_id="run")
    assert channel.close("run") == []


def test_votes_before_a_run_wait_for_it_and_act_once() -> None:
    channel = ControlChannel(FakeClock())
    channel.post(Vote("evaluate", voter="ann"))
    channel.post(Vote("evaluate", voter="ann", reason="newer"))
    channel.post(Vote("stop", voter="ben"))
    channel.post(Vote("stop", voter="ben", withdrawn=True))
    assert [vote.reason for vote in channel.waiting()] == ["newer"]
    first = channel.open("first")
    assert channel.waiting() == []
    assert [v.reason for v in result_of(first, "evaluate").votes] == ["newer"]
    assert not first.has_votes
    channel.close("first")
    second = channel.open("second")
    assert not second.has_votes


def test_nothing_latches_into_the_next_run() -> None:
    channel = ControlChannel(FakeClock())
    first = channel.open("first")
    for action in ACTIONS:
        first.post(Vote(action, voter="ann"))
    channel.close("first")
    second = channel.open("second")
    assert not second.has_votes
    assert all(second.decide(action, 0) is None for action in ACTIONS)


def test_votes_go_to_the_run_they_name_or_to_all() -> None:
    channel = ControlChannel(FakeClock())
    runs = [channel.open(name) for name in ("a", "b")]
    assert channel.post(Vote("save", voter="ann"), run_id="b")
    assert [run.has_votes for run in runs] == [False, True]
    assert channel.post(Vote("stop", voter="ann"))
    assert [run.wants("stop", 0) for run in runs] == [True, True]


def test_votes_from_many_threads_all_count(bus: EventBus) -> None:
    link = bus.open_run(TrainerState())

    def vote(name: str) -> None:
        for _ in range(200):
            bus.vote("save", voter=name)

    threads = [threading.Thread(target=vote, args=(f"voter {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    outcome = link.votes.decide("save", 0)
    assert outcome is not None
    assert [v.voter for v in outcome.decision.votes] == [f"voter {n}" for n in range(4)]


def test_a_gate_vote_is_there_when_emit_returns_a_concurrent_one_when_it_arrives(
    bus: EventBus,
) -> None:
    exact = ScriptedVotes({2: Vote("save", reason="exact")})
    concurrent = ScriptedVotes({2: Vote("save", reason="concurrent"), ("log", 3): Vote("stop")})
    bus.subscribe(exact, delivery="gate", name="exact")
    bus.subscribe(concurrent, name="concurrent")
    state = TrainerState()
    link = bus.open_run(state)
    reasons: list[set[str]] = []
    for _ in range(3):
        state.global_step += 1
        link.emit("step_end")
        link.emit("log", {"logs": {}})
        outcome = link.votes.decide("save", state.global_step)
        reasons.append({v.reason for v in outcome.decision.votes} if outcome else set())
    assert bus.flush(10)
    last = link.votes.decide("save", 3)
    reasons.append({v.reason for v in last.decision.votes} if last else set())
    assert "exact" in reasons[1]
    assert sum("concurrent" in each for each in reasons) == 1
    assert "concurrent" not in reasons[0]
    stop = link.votes.decide("stop", 3)
    assert stop is not None
    assert (stop.decision.votes[0].voter, stop.decision.votes[0].step) == ("concurrent", 3)
    assert exact.num_waiting == concurrent.num_waiting == 0


def test_a_vote_after_the_run_is_late_on_record_once_and_does_nothing(bus: EventBus) -> None:
    release = threading.Event()
    verdicts = Recorder()
    bus.subscribe(Verdict)(verdicts)

    @bus.subscribe("step_end", name="slow")
    def slow(event: StepEnd) -> Vote:
        release.wait(30)
        return Vote("stop", reason="too late")

    state = TrainerState()
    link = bus.open_run(state, run_id="over", attempt=2)
    for _ in range(5):
        state.global_step += 1
        link.emit("step_end")
    assert bus._pump is not None
    assert bus._pump.drain(10)
    bus.close_run(link)
    following = bus.open_run(TrainerState(), run_id="next")
    release.set()
    (late,) = verdicts.wait_for(Verdict)
    assert bus.flush(10)
    assert len(verdicts.events) == 1
    assert (late.outcome, late.action, late.run_id, late.attempt) == ("late", "stop", "over", 2)
    assert (late.seen_at, late.point, late.votes[0].voter) == (1, "step_end", "slow")
    assert late.state.global_step == 1
    assert late.seq == 5, "it goes on with the numbers of its run"
    assert not following.votes.has_votes


def test_a_voter_that_answers_verdicts_with_votes_does_not_go_on_for_ever(bus: EventBus) -> None:
    num_calls = itertools.count()

    @bus.subscribe("verdict", name="contrary")
    def contrary(event: Verdict) -> Vote:
        next(num_calls)
        return Vote("stop")

    bus.open_run(TrainerState(), run_id="over")
    bus.close_run(bus._roster.links[0])
    assert not bus.vote("save", run_id="over", voter="ann")
    for _ in range(5):
        assert bus.flush(10)
    assert next(num_calls) <= 2


def test_votes_through_the_bus(bus: EventBus) -> None:
    assert bus.vote("save", reason="early", voter="ann")
    link = bus.open_run(TrainerState(), run_id="run")
    outcome = link.votes.decide("save", 0)
    assert outcome is not None
    assert (outcome.decision.votes[0].voter, outcome.decision.votes[0].reason) == ("ann", "early")
    assert bus.vote(Vote("stop", reason="why"), run_id="run")
    outcome = link.votes.decide("stop", 0)
    assert outcome is not None
    assert outcome.decision.votes[0].voter == "vote()"
    bus.close_run(link)
    assert not bus.vote("save", run_id="run")
    bus.close()
    with pytest.raises(BusClosedError):
        bus.vote("save")


def test_a_policy_of_the_bus_holds_for_its_runs(make_bus: MakeBus) -> None:
    bus = make_bus(policies={"stop": VotePolicy(rule="all", voters=("ann", "ben"))})
    link = bus.open_run(TrainerState())
    bus.vote("stop", voter="ann")
    assert link.votes.decide("stop", 0) is None
    bus.vote("stop", voter="ben")
    assert link.votes.decide("stop", 0) is not None
