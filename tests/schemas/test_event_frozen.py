"""Nobody who gets an event can change it for the others."""

import copy
import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from stepbus.schemas import Log, StepEnd, TrainBegin, TrainerState, UnknownEvent, Verdict, Vote
from stepbus.schemas.errors import StepbusError
from stepbus.schemas.values import FrozenDict

CHANGES: list[tuple[str, tuple[Any, ...]]] = [
    ("__setitem__", ("loss", 2.0)),
    ("__delitem__", ("loss",)),
    ("__ior__", ({"loss": 2.0},)),
    ("clear", ()),
    ("pop", ("loss",)),
    ("popitem", ()),
    ("setdefault", ("other", 1.0)),
    ("update", ({"loss": 2.0},)),
]


@pytest.mark.parametrize("field", ["loss", "step", "name", "invented"])
def test_a_field_cannot_be_set(field: str) -> None:
    event = StepEnd(loss=1.0)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(event, field, 2.0)
    assert event == StepEnd(loss=1.0)


def test_a_field_cannot_be_deleted() -> None:
    event = StepEnd(loss=1.0)
    with pytest.raises(ValidationError, match="frozen"):
        del event.loss
    assert event.loss == 1.0


@pytest.mark.parametrize(("method", "values"), CHANGES)
def test_logs_cannot_be_changed_and_the_error_says_to_copy(
    method: str, values: tuple[Any, ...]
) -> None:
    event = Log(logs={"loss": 1.0})
    with pytest.raises(TypeError, match="make a copy first"):
        getattr(event.logs, method)(*values)
    assert event.logs == {"loss": 1.0}


def test_arguments_cannot_be_changed_at_any_depth() -> None:
    event = TrainBegin(arguments={"a": {"b": [{"c": 1}]}})
    with pytest.raises(TypeError, match="make a copy first"):
        event.arguments["a"]["b"] = 2
    with pytest.raises(TypeError, match="make a copy first"):
        event.arguments["a"]["b"][0]["c"] = 2
    assert isinstance(event.arguments["a"]["b"], tuple)


def test_fields_of_an_unknown_kind_cannot_be_changed_at_any_depth() -> None:
    event = UnknownEvent.model_validate({"name": "of_a_later_version", "extra": {"a": [{"b": 1}]}})
    extra = event.model_dump()["extra"]
    assert extra == {"a": ({"b": 1},)}
    held = (event.__pydantic_extra__ or {})["extra"]
    with pytest.raises(TypeError, match="make a copy first"):
        held["a"][0]["b"] = 2


def test_the_dict_an_event_was_made_from_stays_the_callers_own() -> None:
    logs: dict[str, Any] = {"loss": 1.0}
    event = Log(logs=logs)
    logs["loss"] = 2.0
    assert event.logs == {"loss": 1.0}


def test_a_copy_of_the_logs_can_be_changed() -> None:
    event = Log(logs={"loss": 1.0})
    for copied in (dict(event.logs), event.logs.copy(), copy.copy(event.logs), event.logs | {}):
        copied["loss"] = 2.0
    deep = copy.deepcopy(FrozenDict({"a": {"b": 1}}))
    deep["a"]["b"] = 2
    assert event.logs == {"loss": 1.0}


def test_default_values_are_not_shared_in_a_way_that_can_be_changed() -> None:
    with pytest.raises(TypeError, match="make a copy first"):
        TrainBegin().arguments["a"] = 1
    assert TrainBegin().arguments == {}


def test_events_and_votes_are_hashable() -> None:
    assert len({Log(logs={"a": 1}), Log(logs={"a": 1}), Log(logs={"a": 2})}) == 2
    verdict = Verdict(action="save", outcome="acted", votes=(Vote("save"),))
    assert hash(verdict) == hash(verdict.model_copy())
    assert len({Vote("save"), Vote("save"), Vote("stop")}) == 2


def test_an_event_pickles_and_stays_frozen() -> None:
    event = pickle.loads(pickle.dumps(Log(logs={"loss": 1.0}, step=3)))
    assert event == Log(logs={"loss": 1.0}, step=3)
    with pytest.raises(TypeError, match="make a copy first"):
        event.logs["loss"] = 2.0


def test_an_event_without_a_run_has_no_state() -> None:
    with pytest.raises(StepbusError, match=r"step_end event carries no state.*event\.step"):
        _ = StepEnd(step=3).state


def test_the_state_of_an_event_has_its_step_and_epoch() -> None:
    live = TrainerState(global_step=9, epoch=0.9, max_steps=10)
    live.log_history.append({"loss": 1.0, "step": 9})
    event = StepEnd(step=8, epoch=0.8).attach_state((live.rest(), 1))
    live.log_history.append({"loss": 0.5, "step": 10})
    live.max_steps = 20
    assert (event.state.global_step, event.state.epoch, event.state.max_steps) == (8, 0.8, 10)
    assert list(event.state.log_history) == [{"loss": 1.0, "step": 9}]
    assert event.state is event.state
    assert event.global_step == 8
    assert b"max_steps" not in event.to_json()
