"""Every name that the installed reference's `Trainer` has is on exactly one of our lists."""

from __future__ import annotations

import ast
import inspect
import textwrap
from importlib import import_module

import pytest

from stepbus.schemas import trainer_names as names

transformers = import_module("transformers")


def methods_of_the_reference() -> set[str]:
    trainer = transformers.Trainer
    found = {name for name in dir(trainer) if callable(getattr(trainer, name))}
    return {name for name in found if not name.startswith("__")}


def attributes_set_by(source: str) -> set[str]:
    """The public attributes that some code assigns to `self`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(source)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and not node.attr.startswith("_")
    }


def test_the_methods_are_those_of_the_installed_reference() -> None:
    assert methods_of_the_reference() == names.REFERENCE_METHODS


def test_every_public_method_is_supported_or_refused_and_not_both() -> None:
    public = {name for name in names.REFERENCE_METHODS if not name.startswith("_")}
    supported = names.CALLED | names.OVERRIDABLE
    groups = [supported, set(names.REFUSED_METHODS)]
    for name in public:
        assert sum(name in group for group in groups) == 1, name


def test_no_name_is_refused_that_the_reference_does_not_have() -> None:
    assert set(names.REFUSED_METHODS) <= names.REFERENCE_METHODS
    assert set(names.NOT_OVERRIDDEN) <= names.CALLED - names.OVERRIDABLE
    assert names.CALLED | names.OVERRIDABLE <= names.REFERENCE_METHODS
    assert not set(names.FORMER_METHODS) & names.REFERENCE_METHODS


def test_every_attribute_of_the_reference_is_supported_or_refused_and_not_both() -> None:
    source = inspect.getsource(transformers.Trainer)
    class_wide = {
        name
        for name, value in vars(transformers.Trainer).items()
        if not name.startswith("_") and name not in names.REFERENCE_METHODS and not callable(value)
    }
    for name in attributes_set_by(source) | class_wide:
        lists = [name in names.ATTRIBUTES, name in names.UNSUPPORTED_ATTRIBUTES]
        assert sum(lists) == 1, name


def test_the_constructor_takes_what_the_reference_takes_and_a_bus() -> None:
    taken = set(inspect.signature(transformers.Trainer.__init__).parameters) - {"self"}
    assert taken | {"bus"} == names.CONSTRUCTOR


def test_methods_and_attributes_are_apart() -> None:
    attributes = names.ATTRIBUTES | set(names.UNSUPPORTED_ATTRIBUTES)
    assert not attributes & names.REFERENCE_METHODS


@pytest.mark.parametrize(
    "table",
    [
        names.REFUSED_METHODS,
        names.UNSUPPORTED_ATTRIBUTES,
        names.FORMER_METHODS,
        names.NOT_OVERRIDDEN,
    ],
)
def test_every_refusal_says_what_to_do(table: dict[str, str]) -> None:
    assert [name for name, text in table.items() if len(text.split()) < 2] == []


def test_what_to_do_is_said_of_methods_without_an_entry_too() -> None:
    assert "push_to_hub=True" in names.instead_of_method("init_hf_repo")
    assert "hyperparameters" in names.instead_of_method("hyperparameter_search")
    assert "subclass" not in names.instead_of_method("_save_scaler")
    assert "events" in names.instead_of_method("_save_scaler")
