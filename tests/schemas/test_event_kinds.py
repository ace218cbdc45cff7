"""Events of the user's own: declared by subclassing, known by name."""

import sys
import types
from collections.abc import Iterator
from typing import Literal

import pytest

from stepbus.schemas import ArgumentError, Event, Log, Save, StepEnd, UnknownEvent, parse_event
from stepbus.schemas.event import event_class, kind_of
from stepbus.schemas.events import NEVER_DROPPED, TrainingEvent


class GradientSpike(Event):
    """Declared here for the tests."""

    name: Literal["schemas_test_gradient_spike"] = "schemas_test_gradient_spike"
    ratio: float


CELL = """
from typing import Literal
from stepbus.schemas import Event

class Cell(Event):
    name: Literal["schemas_test_cell"] = "schemas_test_cell"
    {fields}
"""


def run_cell(module: types.ModuleType, fields: str) -> type[Event]:
    exec(CELL.format(fields=fields), module.__dict__)
    cell: type[Event] = module.__dict__["Cell"]
    return cell


@pytest.fixture
def notebook(request: pytest.FixtureRequest) -> Iterator[types.ModuleType]:
    module = types.ModuleType(f"notebook_of_{request.node.name}")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]
    Event.known_kinds.pop("schemas_test_cell", None)


def test_a_users_event_is_known_by_its_name_and_comes_back_from_json() -> None:
    event = GradientSpike(ratio=12.5, step=4)
    assert event_class("schemas_test_gradient_spike") is GradientSpike
    assert parse_event(event.to_json()) == event


def test_a_name_with_a_plain_default_names_the_kind_too() -> None:
    class Note(Event):
        name: str = "schemas_test_note"
        text: str = ""

    assert kind_of(Note) == "schemas_test_note"
    assert parse_event(Note(text="hello").to_json()) == Note(text="hello")


def test_a_base_class_without_a_name_is_no_kind() -> None:
    assert kind_of(Event) is None
    assert kind_of(TrainingEvent) is None
    assert kind_of(UnknownEvent) is None


def test_a_name_of_stepbus_itself_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"'save' exists already .*another name"):

        class Mine(Event):
            name: Literal["save"] = "save"

    assert event_class("save") is Save


def test_a_subclass_that_keeps_the_name_of_a_built_in_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'step_end' exists already"):

        class Wider(StepEnd):
            more: int = 0

    assert event_class("step_end") is StepEnd


def test_a_name_that_is_not_snake_case_is_refused() -> None:
    for wrong in ("GradientSpike", "gradient-spike", "", "*", "2nd"):
        with pytest.raises(ArgumentError, match="snake_case"):
            type("Mine", (Event,), {"__annotations__": {"name": str}, "name": wrong})


def test_a_notebook_cell_that_runs_again_replaces_its_event(notebook: types.ModuleType) -> None:
    first = run_cell(notebook, "ratio: float = 0.0")
    second = run_cell(notebook, "ratio: float = 0.0\n    width: int = 3")
    assert first is not second
    assert event_class("schemas_test_cell") is second
    assert type(parse_event({"name": "schemas_test_cell", "width": 5})) is second


def test_two_modules_cannot_share_a_name(notebook: types.ModuleType) -> None:
    run_cell(notebook, "ratio: float = 0.0")
    with pytest.raises(ArgumentError, match=f"{notebook.__name__}.Cell"):
        run_cell(types.ModuleType("another_module"), "ratio: float = 0.0")


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ArgumentError, match=r"no event 'step_edn': did you mean 'step_end'\?"):
        event_class("step_edn")


def test_a_name_like_no_other_is_answered_with_all_of_them() -> None:
    with pytest.raises(ArgumentError, match=r"known: .*epoch_begin, .*verdict"):
        event_class("qqqqqqqq")


@pytest.mark.parametrize("wrong", [3, None, int, list[int], Log(logs={})])
def test_what_is_neither_name_nor_class_is_refused(wrong: object) -> None:
    with pytest.raises(ArgumentError, match="is no event"):
        event_class(wrong)  # type: ignore[arg-type]


def test_a_class_of_events_stands_for_itself() -> None:
    assert event_class(Log) is Log
    assert event_class(TrainingEvent) is TrainingEvent


def test_what_is_never_dropped_are_kinds_that_exist() -> None:
    assert set(Event.known_kinds) > NEVER_DROPPED
