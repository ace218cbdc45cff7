"""Arguments about the model, through the whole Trainer beside the reference."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from stepbus import ArgumentError
from tests.compat.apart import OLDER_NAME
from tests.compat.pairs import LIBRARIES, make, of_both
from tests.differential.case import Case, Outcome
from tests.differential.data import texts
from tests.differential.libraries import REFERENCE, STEPBUS, Library
from tests.differential.models import Regression, gpt2

Check = Callable[[Case], Outcome]

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2}
TEXT: dict[str, Any] = {"train": texts(12), "eval": texts(5, seed=1)}


class Remembers(nn.Module):
    """Has a method to recompute activations, and remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Regression()
        self.told: list[Any] = []

    def forward(self, x: Any, labels: Any = None) -> Any:
        return self.inner(x, labels)


class Newer(Remembers):
    """Has the newer method."""

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: Any = None, every_n_layers: int = 1, offload: Any = 0
    ) -> None:
        self.told.append((activation_checkpointing_kwargs, every_n_layers, offload))


class Older(Remembers):
    """Has the method under its older name, of which the reference warns."""

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Any = None, every_n_layers: int = 1, offload: Any = 0
    ) -> None:
        self.told.append((gradient_checkpointing_kwargs, every_n_layers, offload))


def deep() -> Any:
    return gpt2(n_layer=3)


CHECKPOINTING = [
    Case(
        "use_reentrant False",
        {
            "activation_checkpointing": True,
            "activation_checkpointing_kwargs": {"use_reentrant": False},
        },
        gpt2,
        **TEXT,
    ),
    Case(
        "use_reentrant True, as text",
        {
            "activation_checkpointing": True,
            "activation_checkpointing_kwargs": '{"use_reentrant": true}',
            **EVALUATED,
        },
        gpt2,
        **TEXT,
    ),
    Case(
        "every second layer",
        {
            "activation_checkpointing": True,
            "activation_checkpointing_kwargs": {"every_n_layers": 2},
            "gradient_accumulation_steps": 2,
        },
        deep,
        **TEXT,
    ),
    Case(
        "the older names",
        {
            "gradient_checkpointing": True,
            "gradient_checkpointing_kwargs": {"use_reentrant": False},
        },
        gpt2,
        except_for=(OLDER_NAME,),
        **TEXT,
    ),
]
OTHERS = [
    Case("use_cache", {"use_cache": True, **EVALUATED}, gpt2, **TEXT),
    Case("torch_empty_cache_steps", {"torch_empty_cache_steps": 2}),
]


@pytest.mark.parametrize("case", CHECKPOINTING, ids=lambda case: case.name)
def test_checkpointing(check: Check, case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.name)
def test_others(check: Check, case: Case) -> None:
    check(case)


@pytest.mark.parametrize("kind", [Newer, Older])
@pytest.mark.parametrize("options", [None, {"use_reentrant": False}])
def test_the_model_s_own_method_is_told_what_it_is_told_there(
    tmp_path: Path, kind: Any, options: Any
) -> None:
    def told(library: Library) -> Any:
        arguments = {
            "activation_checkpointing": True,
            "activation_checkpointing_kwargs": options,
            "max_steps": 1,
        }
        trainer = make(library, tmp_path, given={"model": kind()}, **arguments)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`Older` only defines", FutureWarning)
            trainer.train()
        return trainer.model.told

    theirs, ours = of_both(told)
    assert ours == theirs
    assert len(ours) == 1


def test_a_model_without_such_a_method_is_refused_by_name(tmp_path: Path) -> None:
    trainer = make(STEPBUS, tmp_path, activation_checkpointing=True)
    with pytest.raises(ArgumentError, match=r"Regression has no activation_checkpointing_enable"):
        trainer.train()
    with (
        pytest.warns(FutureWarning, match="Regression"),
        pytest.raises(AttributeError, match="checkpointing_enable"),
    ):
        make(REFERENCE, tmp_path, activation_checkpointing=True).train()


@LIBRARIES
def test_activation_checkpointing_is_on_while_it_trains(library: Library, tmp_path: Path) -> None:
    given = {"model": gpt2(), "train_dataset": texts(8)(), "eval_dataset": texts(4)()}
    trainer = make(library, tmp_path, given=given, activation_checkpointing=True, max_steps=1)
    assert not trainer.model.is_activation_checkpointing
    trainer.train()
    assert trainer.model.is_activation_checkpointing


@LIBRARIES
@pytest.mark.parametrize("use_cache", [False, True])
def test_use_cache_reaches_the_model_s_configuration(
    library: Library, tmp_path: Path, use_cache: bool
) -> None:
    model = gpt2()
    model.config.use_cache = not use_cache
    trainer = make(library, tmp_path, given={"model": model}, use_cache=use_cache)
    assert trainer.model.config.use_cache is use_cache
