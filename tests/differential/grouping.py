"""Turns lists of cases into the parameters of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.differential.case import Case
from tests.differential.differences import Difference


def each(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Parametrizes a test by `case`; all but the quick ones are slow tests."""
    parameters = [
        pytest.param(case, id=case.name, marks=() if case.quick else pytest.mark.slow)
        for case in cases
    ]
    return pytest.mark.parametrize("case", parameters)


def covers(difference: Difference) -> Callable[[Any], Any]:
    """Says which difference a test shows; it is a slow test."""

    def mark(test: Any) -> Any:
        test.covers = difference
        return pytest.mark.slow(test)

    return mark
