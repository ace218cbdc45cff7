"""How votes become one decision, whatever the order they came in."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.schemas import ArgumentError, Vote, VotePolicy, merge

NAMES = ("ann", "ben", "cleo", "dan", "eve")


def ask(voter: str, **fields: Any) -> Vote:
    return Vote("stop", voter=voter, **fields)


def veto(voter: str) -> Vote:
    return Vote("stop", voter=voter, against=True)


ONE_EACH = st.lists(st.sampled_from(NAMES), unique=True).flatmap(
    lambda names: st.tuples(
        *(
            st.builds(
                ask,
                st.just(name),
                against=st.booleans(),
                critical=st.sampled_from([False, False, False, True]),
                withdrawn=st.sampled_from([False, False, False, True]),
            )
            for name in names
        )
    )
)

SEVERAL_EACH = st.lists(
    st.builds(ask, st.sampled_from(NAMES), against=st.booleans(), withdrawn=st.booleans())
)

POLICIES = st.one_of(
    st.just(VotePolicy()),
    st.lists(st.sampled_from(NAMES), min_size=1, unique=True).flatmap(
        lambda voters: st.one_of(
            st.just(VotePolicy(voters=tuple(voters))),
            st.just(VotePolicy(rule="all", voters=tuple(voters))),
            st.integers(1, len(voters)).map(
                lambda count: VotePolicy(rule="quorum", voters=tuple(voters), count=count)
            ),
            st.floats(0, 1, exclude_min=True).map(
                lambda part: VotePolicy(rule="fraction", voters=tuple(voters), fraction=part)
            ),
        )
    ),
)


@given(ONE_EACH, POLICIES, st.randoms())
def test_the_order_of_different_voters_changes_nothing(
    votes: tuple[Vote, ...], policy: VotePolicy, random: Any
) -> None:
    shuffled = list(votes)
    random.shuffle(shuffled)
    assert merge(shuffled, policy) == merge(votes, policy)


@given(SEVERAL_EACH, POLICIES)
def test_repeating_votes_changes_nothing(votes: list[Vote], policy: VotePolicy) -> None:
    assert merge(votes + votes, policy) == merge(votes, policy)
    doubled = [vote for vote in votes for _ in range(2)]
    assert merge(doubled, policy) == merge(votes, policy)


@given(SEVERAL_EACH, POLICIES)
def test_only_the_newest_vote_of_a_voter_counts(votes: list[Vote], policy: VotePolicy) -> None:
    newest = {vote.voter: vote for vote in votes}
    assert merge(votes, policy) == merge(newest.values(), policy)


@given(ONE_EACH, POLICIES)
def test_a_veto_blocks_unless_a_vote_is_critical(
    votes: tuple[Vote, ...], policy: VotePolicy
) -> None:
    decision = merge((*votes, veto("zoe")), policy)
    critical = any(v.critical and not v.against and not v.withdrawn for v in votes)
    assert decision.carried == critical
    assert decision.vetoes[-1] == veto("zoe")
    without = merge([v for v in votes if not v.against or v.withdrawn], policy)
    assert decision.vetoed == (without.carried and not critical)


@given(ONE_EACH, POLICIES)
def test_a_critical_vote_carries_whatever_the_policy(
    votes: tuple[Vote, ...], policy: VotePolicy
) -> None:
    signal = ask("signal", critical=True)
    decision = merge((*votes, signal), policy)
    assert decision.carried
    assert not decision.vetoed
    assert signal in decision.votes


@given(st.sets(st.sampled_from(NAMES)), POLICIES)
def test_an_action_is_carried_exactly_when_enough_of_the_named_ask(
    asking: set[str], policy: VotePolicy
) -> None:
    decision = merge([ask(name) for name in asking], policy)
    counted = asking & set(policy.voters or NAMES)
    assert [vote.voter for vote in decision.votes] == sorted(counted)
    assert decision.carried == (len(counted) >= policy.needed)
    assert not decision.vetoed


@pytest.mark.parametrize(
    ("policy", "needed"),
    [
        (VotePolicy(), 1),
        (VotePolicy(voters=NAMES), 1),
        (VotePolicy(rule="all", voters=NAMES), 5),
        (VotePolicy(rule="quorum", voters=NAMES, count=3), 3),
        (VotePolicy(rule="fraction", voters=NAMES), 3),
        (VotePolicy(rule="fraction", voters=NAMES, fraction=0.2), 1),
        (VotePolicy(rule="fraction", voters=NAMES, fraction=0.21), 2),
        (VotePolicy(rule="fraction", voters=NAMES, fraction=1.0), 5),
        (VotePolicy(rule="fraction", voters=NAMES, fraction=1e-9), 1),
        (VotePolicy(rule="fraction", voters=tuple("abcdefghijklmnopqrstuvwxy"), fraction=0.28), 7),
    ],
)
def test_how_many_must_ask(policy: VotePolicy, needed: int) -> None:
    assert policy.needed == needed


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_fraction_written_with_two_decimals_is_taken_as_written(num: int, part: int) -> None:
    voters = tuple(str(index) for index in range(num))
    policy = VotePolicy(rule="fraction", voters=voters, fraction=part / 100)
    assert policy.needed == -(-part * num // 100)


def test_no_votes_carry_nothing() -> None:
    decision = merge([])
    assert not decision.carried
    assert not decision.vetoed
    assert decision.votes == decision.vetoes == ()


def test_a_withdrawn_vote_counts_no_more() -> None:
    assert not merge([ask("ann"), ask("ann").withdraw()]).carried
    assert merge([ask("ann"), ask("ben").withdraw()]).carried
    assert merge([ask("ann"), ask("ann").withdraw(), ask("ann")]).carried


def test_a_withdrawn_veto_blocks_no_more() -> None:
    assert merge([veto("ben"), ask("ann"), veto("ben").withdraw()]).carried


def test_a_voter_may_change_sides() -> None:
    assert not merge([ask("ann"), veto("ann")]).carried
    assert merge([veto("ann"), ask("ann")]).carried


def test_a_critical_vote_cannot_be_replaced_or_taken_back() -> None:
    critical = ask("signal", critical=True)
    assert merge([critical, ask("signal").withdraw()]).carried
    assert merge([critical, veto("signal")]).carried
    assert merge([critical, ask("signal")]).votes == (critical,)


def test_a_critical_veto_is_a_veto_like_any_other() -> None:
    against = Vote("stop", voter="ben", against=True, critical=True)
    assert not merge([ask("ann"), against]).carried
    assert merge([ask("signal", critical=True), against]).carried


def test_voters_that_a_policy_does_not_name_cannot_carry_but_can_veto() -> None:
    policy = VotePolicy(voters=("ann",))
    assert not merge([ask("ben")], policy).carried
    blocked = merge([ask("ann"), veto("ben")], policy)
    assert not blocked.carried
    assert blocked.vetoed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rule": "most"}, "VotePolicy.rule is 'most': .*'quorum' or 'fraction'"),
        ({"rule": "all"}, "'all' needs voters="),
        ({"rule": "quorum", "count": 2}, "'quorum' needs voters="),
        ({"rule": "fraction"}, "'fraction' needs voters="),
        ({"rule": "quorum", "voters": ("a",), "count": 2}, "quorum of 2 among 1 voters never"),
        ({"rule": "quorum", "voters": ("a",), "count": 0}, "VotePolicy.count is 0"),
        ({"rule": "fraction", "voters": ("a",), "fraction": 0.0}, "VotePolicy.fraction is 0.0"),
        ({"rule": "fraction", "voters": ("a",), "fraction": 1.5}, "VotePolicy.fraction is 1.5"),
        ({"rule": "fraction", "voters": ("a",), "fraction": math.nan}, "fraction is nan"),
        ({"rule": "all", "voters": ("a", "a")}, "name each once"),
    ],
)
def test_a_policy_that_can_never_act_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        VotePolicy(**fields)


def test_a_policy_is_read_from_plain_values() -> None:
    values = {"rule": "quorum", "voters": ["a", "b"], "count": 2}
    assert VotePolicy.model_validate(values).needed == 2
