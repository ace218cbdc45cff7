"""The five flags, and whose they are."""

import copy
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.schemas import ACTIONS, Action, TrainerControl, Vote
from stepbus.schemas.control import ACTION_OF, FLAG_OF

FIVE = st.tuples(*[st.booleans()] * 5)


def control_with(flags: tuple[bool, ...]) -> TrainerControl:
    control = TrainerControl()
    for action, flag in zip(ACTIONS, flags, strict=True):
        setattr(control, FLAG_OF[action], flag)
    return control


def test_every_flag_starts_down() -> None:
    assert TrainerControl().flags == (False,) * 5
    assert list(TrainerControl().standing()) == []


def test_every_action_has_its_flag() -> None:
    assert tuple(FLAG_OF) == ACTIONS
    assert {ACTION_OF[flag]: flag for flag in ACTION_OF} == FLAG_OF


@pytest.mark.parametrize("action", ACTIONS)
def test_a_flag_that_somebody_raised_stands_in_their_name(action: Action) -> None:
    control = TrainerControl()
    before = control.flags
    setattr(control, FLAG_OF[action], True)
    control.credit("budget", before)
    assert list(control.standing()) == [(action, "budget")]


def test_a_flag_that_stood_already_keeps_its_setter() -> None:
    control = TrainerControl()
    control.should_save = True
    control.credit("first", TrainerControl().flags)
    before = control.flags
    control.should_save = True
    control.should_log = True
    control.credit("second", before)
    assert list(control.standing()) == [("log", "second"), ("save", "first")]


def test_lowering_and_raising_a_flag_moves_it_to_the_last_writer() -> None:
    control = TrainerControl()
    for setter, raised in (("first", True), ("second", False), ("third", True)):
        before = control.flags
        control.should_training_stop = raised
        control.credit(setter, before)
    assert list(control.standing()) == [("stop", "third")]


def test_a_flag_that_nobody_was_credited_with_has_no_setter() -> None:
    assert list(TrainerControl(should_save=True).standing()) == [("save", "")]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_reset_lowers_one_flag_and_forgets_its_setter(action: Action) -> None:
    control = TrainerControl()
    before = control.flags
    for flag in FLAG_OF.values():
        setattr(control, flag, True)
    control.credit("all", before)
    control.reset(action)
    assert list(control.standing()) == [(other, "all") for other in ACTIONS if other != action]
    setattr(control, FLAG_OF[action], True)
    assert (action, "") in list(control.standing())


@given(FIVE, FIVE)
def test_adopting_takes_over_all_five_flags(
    own: tuple[bool, ...], returned: tuple[bool, ...]
) -> None:
    control = control_with(own)
    control.adopt(control_with(returned))
    assert control.flags == returned


@given(FIVE, FIVE)
def test_adopting_and_crediting_names_who_returned_the_control(
    own: tuple[bool, ...], returned: tuple[bool, ...]
) -> None:
    control = TrainerControl()
    control.adopt(control_with(own))
    control.credit("first", (False,) * 5)
    before = control.flags
    control.adopt(control_with(returned))
    control.credit("second", before)
    assert list(control.standing()) == [
        (action, "first" if was else "second")
        for action, was, now in zip(ACTIONS, own, returned, strict=True)
        if now
    ]


def test_a_control_of_another_library_can_be_adopted() -> None:
    foreign = SimpleNamespace(**dict.fromkeys(FLAG_OF.values(), 0))
    foreign.should_save = 1
    control = TrainerControl(should_log=True)
    control.adopt(foreign)
    assert control == TrainerControl(should_save=True)
    assert control.should_save is True


def test_controls_are_equal_when_their_flags_are() -> None:
    assert TrainerControl(should_log=True) == TrainerControl(should_log=True, votes=(Vote("log"),))
    assert TrainerControl(should_log=True) != TrainerControl()
    assert TrainerControl() != (False,) * 5


def test_a_misspelled_flag_is_an_error_instead_of_a_vote_that_is_lost() -> None:
    with pytest.raises(AttributeError, match="should_stop"):
        TrainerControl().should_stop = True


def test_a_copy_of_a_control_is_independent() -> None:
    control = TrainerControl(should_log=True)
    twin = copy.deepcopy(control)
    twin.should_log = False
    assert control.should_log
    assert "should_log=True" in repr(control)
