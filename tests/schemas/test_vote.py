"""What can be voted, and what a wrong vote is told."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stepbus.schemas import ACTIONS, Action, ArgumentError, Vote


@pytest.mark.parametrize("action", ACTIONS)
def test_the_action_may_stand_first_or_have_its_name(action: Action) -> None:
    assert Vote(action) == Vote(action=action)
    assert Vote(action, reason="why").reason == "why"


def test_actions_stand_in_the_order_of_acting() -> None:
    assert ACTIONS == ("log", "evaluate", "save", "stop_epoch", "stop")


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        ("sav", "no action 'sav' to vote for: did you mean 'save'?"),
        ("stop_epcoh", "did you mean 'stop_epoch'?"),
        ("qqqq", "known: evaluate, log, save, stop, stop_epoch"),
        (3, "no action 3"),
        ("", "no action ''"),
        (["save"], "no action"),
    ],
)
def test_an_unknown_action_is_answered_with_the_nearest(wrong: Any, answer: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Vote(wrong)
    assert answer in str(caught.value)


def test_a_vote_needs_an_action() -> None:
    with pytest.raises(ArgumentError, match="no action None"):
        Vote()


@pytest.mark.parametrize("field", ["expires_after_steps", "expires_after_s"])
@pytest.mark.parametrize("wrong", [0, -1, "soon", math.nan])
def test_an_expiry_that_is_not_positive_is_refused(field: str, wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=rf"Vote\.{field} is {wrong!r}"):
        Vote("save", **{field: wrong})


@given(st.integers(min_value=1), st.floats(min_value=0, exclude_min=True))
def test_positive_expiries_are_taken(steps: int, seconds: float) -> None:
    vote = Vote("save", expires_after_steps=steps, expires_after_s=seconds)
    assert (vote.expires_after_steps, vote.expires_after_s) == (steps, seconds)


def test_a_vote_is_frozen() -> None:
    vote = Vote("save")
    with pytest.raises(ValidationError, match="frozen"):
        vote.reason = "x"


def test_withdrawing_names_the_same_voter_and_action() -> None:
    vote = Vote("stop", voter="budget", against=True, reason="over")
    taken_back = vote.withdraw()
    assert taken_back.withdrawn
    assert (taken_back.voter, taken_back.action) == ("budget", "stop")
    assert not vote.withdrawn


def test_a_vote_is_read_from_json_with_fields_of_a_newer_version() -> None:
    vote = Vote.model_validate_json('{"action": "save", "voter": "page", "urgency": 3}')
    assert vote == Vote("save", voter="page")
