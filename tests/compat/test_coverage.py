"""No name that a script may expect is without a test, and none of the reference off the lists."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import stepbus
from stepbus.schemas import argument_names as arguments
from stepbus.schemas import trainer_names as names
from tests.compat.coverage import TABLES

transformers = import_module("transformers")

ROOT = Path(__file__).resolve().parents[2]
LISTED: dict[str, set[str]] = {
    "arguments": set(arguments.SUPPORTED | arguments.OWN),
    "refused arguments": set(arguments.REFUSED),
    "former arguments": {*arguments.FORMER, *arguments.FORMER_REFUSED},
    "constructor": {*names.CONSTRUCTOR, "tokenizer"},
    "called": set(names.CALLED),
    "overridden": set(names.OVERRIDABLE),
    "never called": {*names.REFUSED_METHODS, *names.FORMER_METHODS},
    "read": set(names.ATTRIBUTES),
    "not read": set(names.UNSUPPORTED_ATTRIBUTES),
}
HOMES = ("transformers", "transformers.trainer_utils", "transformers.trainer_callback")
OF_THE_REFERENCE_ALONE = {"default_optim", "is_torch_greater_or_equal_than_2_8"}
"""Public by name only: what its own fields are made with."""


def test_every_argument_of_the_reference_is_on_a_list() -> None:
    fields = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    known = arguments.SUPPORTED | arguments.REFUSED.keys()
    assert fields - known == set(), "support or refuse each"


def test_every_argument_of_the_constructor_is_on_a_list() -> None:
    taken = set(inspect.signature(transformers.Trainer.__init__).parameters) - {"self"}
    assert taken - names.CONSTRUCTOR == set(), "support or refuse each"


def test_every_public_method_of_the_reference_is_on_a_list() -> None:
    public = {name for name in dir(transformers.Trainer) if not name.startswith("_")}
    methods = {name for name in public if callable(getattr(transformers.Trainer, name))}
    known = names.CALLED | names.OVERRIDABLE | names.REFUSED_METHODS.keys()
    attributes = names.ATTRIBUTES | names.UNSUPPORTED_ATTRIBUTES.keys()
    assert methods - known == set(), "support or refuse each"
    assert public - methods - attributes == set(), "support or refuse each"


def test_every_member_of_the_reference_s_arguments_has_a_test() -> None:
    fields = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    public = {name for name in dir(transformers.TrainingArguments) if not name.startswith("_")}
    assert public - fields - OF_THE_REFERENCE_ALONE == TABLES["members of the arguments"].keys()


def test_every_name_that_both_have_has_a_test() -> None:
    homes = [importlib.import_module(home) for home in (*HOMES, "transformers.integrations")]
    shared = {name for name in stepbus.__all__ if any(hasattr(home, name) for home in homes)}
    assert shared - {"__version__"} == TABLES["imported"].keys()


@pytest.mark.parametrize("part", LISTED)
def test_every_name_on_a_list_has_a_test_and_no_other(part: str) -> None:
    table = TABLES[part]
    assert LISTED[part] - table.keys() == set(), "write a test for each"
    assert table.keys() - LISTED[part] == set(), "no longer on the list"


def test_every_part_is_checked() -> None:
    assert TABLES.keys() == {*LISTED, "members of the arguments", "imported", "on purpose"}


@pytest.mark.parametrize("part", TABLES)
def test_every_entry_names_a_test_that_there_is(part: str) -> None:
    problems = [problem(part, name, test) for name, test in TABLES[part].items()]
    assert [text for text in problems if text] == []


def problem(part: str, name: str, test: str) -> str:
    """What is wrong with an entry; nothing for one that names a test."""
    path, _, rest = test.partition("::")
    function, _, parameter = rest.removesuffix("]").partition("[")
    if not (ROOT / path).is_file():
        return f"{name}: there is no {path}"
    found = getattr(module_of(path), function, None)
    if found is None:
        return f"{name}: {path} has no {function}"
    if parameter and parameter not in parameters_of(found):
        return f"{name}: {path}::{function} has no parameter {parameter!r}"
    # What is on purpose has no name, and what is read is read by the list.
    if part in ("on purpose", "read") or parameter == name:
        return ""
    written = re.compile(rf"\b{re.escape(name)}\b")
    return "" if any(map(written.search, sources(path))) else f"{name}: not in {path}"


@pytest.mark.parametrize(
    ("name", "test", "said"),
    [
        ("seed", "tests/compat/test_nothing.py::test_x", "there is no tests/compat/test_nothing"),
        ("seed", "tests/compat/test_coverage.py::test_x", "has no test_x"),
        ("seed", "tests/differential/test_lengths.py::test_seeds[3]", "no parameter '3'"),
        ("sead", "tests/differential/test_lengths.py::test_seeds[0]", "sead: not in"),
        ("seed", "tests/differential/test_lengths.py::test_seeds[0]", ""),
    ],
)
def test_a_wrong_entry_is_found(name: str, test: str, said: str) -> None:
    found = problem("arguments", name, test)
    assert said in found
    assert bool(said) == bool(found)


@cache
def module_of(path: str) -> Any:
    return importlib.import_module(path.removesuffix(".py").replace("/", "."))


def parameters_of(function: Any) -> set[str]:
    """The ids of a parametrized test, where each of its parameters has one."""
    marks = [m for m in getattr(function, "pytestmark", ()) if m.name == "parametrize"]
    each = [list(ids_of(mark)) for mark in marks]
    return {"-".join(parts) for parts in itertools.product(*each)} if each else set()


def ids_of(mark: Any) -> Iterator[str]:
    ids = mark.kwargs.get("ids")
    for index, value in enumerate(mark.args[1]):
        if getattr(value, "id", None) is not None:
            yield value.id
        elif callable(ids):
            yield str(ids(value))
        else:
            yield str(ids[index] if ids else value)


@cache
def sources(path: str) -> list[str]:
    """The text of a test's module, and of the test modules that it imports."""
    text = (ROOT / path).read_text(encoding="utf-8")
    imported = {
        str(node.module)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tests.")
    }
    files = (ROOT / f"{module.replace('.', '/')}.py" for module in imported)
    return [text, *(file.read_text(encoding="utf-8") for file in files)]
