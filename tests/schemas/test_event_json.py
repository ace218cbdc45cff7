"""Events leave as JSON and come back exactly as they were."""

import json
import math
import types
import typing
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from stepbus.schemas import (
    ACTIONS,
    AnyEvent,
    ArgumentError,
    Event,
    Log,
    RunFailed,
    Save,
    StepEnd,
    TrainBegin,
    UnknownEvent,
    Verdict,
    Vote,
    parse_event,
)

KINDS: tuple[type[Event], ...] = typing.get_args(typing.get_args(AnyEvent)[0])
ANY_EVENT: TypeAdapter[Event] = TypeAdapter(AnyEvent)

FLOATS = st.one_of(st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324]))
INTS = st.one_of(st.integers(), st.sampled_from([2**53 + 1, 2**63, -(2**64), 10**30]))
TEXT = st.text().filter(lambda text: text not in ("NaN", "Infinity", "-Infinity"))
SCALARS = st.dictionaries(TEXT, st.one_of(FLOATS, INTS, st.booleans(), TEXT, st.none()))
PLAIN = st.dictionaries(
    TEXT,
    st.recursive(
        st.one_of(FLOATS, INTS, st.booleans(), TEXT, st.none()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)
        ),
        max_leaves=5,
    ),
)
VOTES = st.builds(
    Vote,
    st.sampled_from(ACTIONS),
    reason=TEXT,
    voter=TEXT,
    against=st.booleans(),
    critical=st.booleans(),
    withdrawn=st.booleans(),
    step=st.none() | INTS,
    expires_after_steps=st.none() | st.integers(min_value=1),
    expires_after_s=st.none() | st.floats(min_value=0, exclude_min=True),
)


def values_of(annotation: Any, field: FieldInfo | None = None) -> st.SearchStrategy[Any]:
    if annotation == dict[str, Any]:
        return PLAIN
    if typing.get_origin(annotation) is dict:
        return SCALARS
    if typing.get_origin(annotation) is tuple:
        return st.lists(values_of(typing.get_args(annotation)[0]), max_size=3).map(tuple)
    if typing.get_origin(annotation) is Literal:
        return st.sampled_from(typing.get_args(annotation))
    if isinstance(annotation, types.UnionType):
        return st.one_of([values_of(part) for part in typing.get_args(annotation)])
    return {
        float: FLOATS,
        int: INTS,
        bool: st.booleans(),
        str: TEXT,
        bytes: st.binary(),
        type(None): st.none(),
        Vote: VOTES,
    }[annotation]


def events_of(kind: type[Event]) -> st.SearchStrategy[Event]:
    fields = {name: values_of(field.annotation) for name, field in kind.model_fields.items()}
    return st.builds(kind, **fields)


def spelled(value: Any) -> Any:
    """The value with its types, so that True, 1 and 1.0, and 0.0 and -0.0, all differ."""
    if isinstance(value, Event | Vote):
        return {name: spelled(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {key: spelled(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [spelled(item) for item in value]
    return (type(value).__name__, repr(value))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_exactly(kind: type[Event]) -> None:
    @settings(max_examples=25)
    @given(events_of(kind))
    def comes_back(event: Event) -> None:
        line = event.to_json()
        assert b"\n" not in line
        back = parse_event(line)
        assert type(back) is kind
        assert spelled(back) == spelled(event)
        assert back.to_json() == line
        assert spelled(ANY_EVENT.validate_json(line)) == spelled(event)

    comes_back()


@given(SCALARS)
def test_logged_values_keep_their_type_when_an_event_is_made(logs: dict[str, Any]) -> None:
    assert spelled(Log(logs=logs).logs) == spelled(logs)


@given(PLAIN)
def test_arguments_keep_their_values_when_an_event_is_made(arguments: dict[str, Any]) -> None:
    assert spelled(TrainBegin(arguments=arguments).arguments) == spelled(arguments)


def test_non_finite_numbers_travel_as_strings_that_json_readers_accept() -> None:
    event = Log(logs={"a": math.nan, "b": math.inf, "c": -math.inf}, epoch=math.inf)
    values = json.loads(event.to_json(), parse_constant=lambda word: pytest.fail(word))
    assert values["logs"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity"}
    assert values["epoch"] == "Infinity"


def test_the_spellings_of_non_finite_numbers_mean_the_numbers_wherever_values_are_logged() -> None:
    assert Log(logs={"a": "-Infinity"}).logs == {"a": -math.inf}
    nested = parse_event('{"name":"train_begin","arguments":{"a":{"b":["NaN"]}}}')
    assert isinstance(nested, TrainBegin)
    assert math.isnan(nested.arguments["a"]["b"][0])


def test_any_event_is_told_apart_by_its_name() -> None:
    event = ANY_EVENT.validate_python({"name": "step_end", "loss": "NaN", "step": 3})
    assert isinstance(event, StepEnd)
    assert event.loss is not None
    assert math.isnan(event.loss)
    with pytest.raises(ValueError, match="step_edn"):
        ANY_EVENT.validate_python({"name": "step_edn"})


def test_fields_of_a_newer_writer_are_ignored_in_known_kinds() -> None:
    event = parse_event({"name": "save", "path": "out/checkpoint-1", "colour": "red"})
    assert event == Save(path="out/checkpoint-1")
    assert b"colour" not in event.to_json()


def test_an_unknown_kind_is_kept_whole_and_passed_on_unchanged() -> None:
    values = {
        "name": "kind_of_a_later_version",
        "schema_version": 7,
        "run_id": "r",
        "attempt": 2,
        "seq": 11,
        "rank": 1,
        "time": 1.5,
        "monotonic": 2.5,
        "step": 3,
        "epoch": 0.25,
        "unresolved": ["x"],
        "word": "NaN",
        "big": 10**30,
        "state": {"nested": [1, 2.0, True, None, {"deep": "\u00e9\u4e16"}]},
    }
    event = parse_event(json.dumps(values))
    assert isinstance(event, UnknownEvent)
    again = json.loads(event.to_json())
    assert again == values
    assert spelled(again) == spelled(values)


@settings(max_examples=50)
@given(PLAIN)
def test_any_field_of_an_unknown_kind_survives_two_hops(fields: dict[str, Any]) -> None:
    known = set(UnknownEvent.model_fields)
    extra = {f"x_{name}": value for name, value in fields.items() if name not in known}
    once = UnknownEvent(name="of_a_later_version", **extra).to_json()
    assert parse_event(once).to_json() == once


def test_what_is_no_event_is_refused_with_its_text() -> None:
    for text in ("", "[]", "{}", '{"name": []}', '{"name": 3}', b"\xff", '{"name": "log"}'):
        with pytest.raises(ArgumentError, match="not an event"):
            parse_event(text)


def test_a_wrong_vote_inside_a_verdict_is_refused_by_its_action() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'save'"):
        parse_event(
            {"name": "verdict", "action": "save", "outcome": "acted", "votes": [{"action": "sav"}]}
        )


def test_text_that_utf8_cannot_spell_is_escaped_instead_of_failing() -> None:
    event = RunFailed(error="OSError", message="no file caf\udce9", traceback="")
    back = parse_event(event.to_json())
    assert isinstance(back, RunFailed)
    assert back.message == "no file caf\\udce9"
    inside = Verdict(action="save", outcome="acted", votes=(Vote("save", reason="\ud800"),))
    again = parse_event(inside.to_json())
    assert isinstance(again, Verdict)
    assert again.votes[0].reason == "\\ud800"


def test_foreign_objects_among_the_arguments_leave_as_text() -> None:
    class Foreign:
        def __str__(self) -> str:
            return "a foreign object"

    event = TrainBegin(arguments={"a": Foreign(), "b": b"\xff", "c": math.nan})
    assert json.loads(event.to_json())["arguments"] == {
        "a": "a foreign object",
        "b": "\\xff",
        "c": "NaN",
    }


def test_the_kinds_are_those_of_the_reference_and_ours() -> None:
    of_the_reference = {
        "init_end",
        "train_begin",
        "train_end",
        "epoch_begin",
        "epoch_end",
        "step_begin",
        "pre_optimizer_step",
        "optimizer_step",
        "substep_end",
        "step_end",
        "evaluate",
        "predict",
        "prediction_step",
        "save",
        "log",
        "push_begin",
    }
    ours = set(
        """
        run_failed verdict subscriber_failed subscriber_behind stalled resumed batch_size_retry
        optimizer_step_skipped non_finite histogram artifact
        """.split()
    )
    kinds = {kind.model_fields["name"].default for kind in KINDS}
    assert kinds == of_the_reference | ours
    assert all(Event.known_kinds[kind.model_fields["name"].default] is kind for kind in KINDS)
