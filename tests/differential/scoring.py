"""Evaluations whose figures are known beforehand, and who watches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.differential.case import Case
from tests.differential.differences import Difference
from tests.differential.libraries import Library

BEST: dict[str, Any] = {
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "load_best_model_at_end": True,
}
FALLING = (5.0, 4.0, 3.0, 2.0, 1.0, 0.5)
DIPPING = (5.0, 2.0, 3.0, 2.5, 4.0, 3.5)
RISING = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
LEVEL = (2.0, 2.0, 2.0, 2.0, 2.0, 2.0)
SLOW = (5.0, 4.9, 4.8, 4.7, 4.6, 4.5)


def scoring(scores: tuple[float, ...], name: str = "score") -> Callable[[Library], dict[str, Any]]:
    """A `compute_metrics` whose figures are known beforehand."""

    def make(library: Library) -> dict[str, Any]:
        left: Iterator[float] = iter(scores)
        return {"compute_metrics": lambda prediction: {name: next(left)}}

    return make


def stopping(*args: Any, **keywords: Any) -> Callable[[Library], list[Any]]:
    """Early stopping, by each library's own class."""
    return lambda library: [library.EarlyStoppingCallback(*args, **keywords)]


def scored(
    name: str,
    scores: tuple[float, ...],
    callbacks: Callable[[Library], list[Any]] = lambda library: [],
    quick: bool = False,
    except_for: tuple[Difference, ...] = (),
    **changed: Any,
) -> Case:
    """A case that goes by scores of evaluations, of which less is better unless told otherwise."""
    arguments = BEST | {"metric_for_best_model": "score", "greater_is_better": False} | changed
    return Case(
        name,
        arguments,
        trainer=scoring(scores),
        callbacks=callbacks,
        quick=quick,
        except_for=except_for,
    )
