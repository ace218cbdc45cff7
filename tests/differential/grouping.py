"""Turns lists of cases into the parameters of tests."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.differential.case import Case


def each(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Parametrizes a test by `case`; all but the quick ones are slow tests."""
    parameters = [
        pytest.param(case, id=case.name, marks=() if case.quick else pytest.mark.slow)
        for case in cases
    ]
    return pytest.mark.parametrize("case", parameters)
