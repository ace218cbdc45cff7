"""Puts cases through both libraries; nothing of one run reaches the next."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.differential import comparing
from tests.differential.case import Case, Outcome, run
from tests.differential.comparing import report
from tests.differential.libraries import REFERENCE, STEPBUS, Library

Run = Callable[[Case, Library], Outcome]
Both = Callable[[Case], tuple[Outcome, Outcome]]


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, no hub, generators and environment as they were."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    environ, threads = dict(os.environ), torch.get_num_threads()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    os.environ.clear()
    os.environ.update(environ)


@pytest.fixture
def outcome_of(tmp_path: Path) -> Run:
    """Runs a case with a library, in a folder that no other run has."""
    count = iter(range(1000))

    def outcome(case: Case, library: Library) -> Outcome:
        gc.freeze()
        environ = dict(os.environ)
        try:
            return run(case, library, tmp_path / f"{library.name}-{next(count)}")
        finally:
            os.environ.clear()
            os.environ.update(environ)

    return outcome


@pytest.fixture
def check(outcome_of: Run) -> Callable[[Case], Outcome]:
    """Asserts that both libraries make the same of a case; gives the outcome of stepbus."""

    def compare(case: Case) -> Outcome:
        reference, stepbus = outcome_of(case, REFERENCE), outcome_of(case, STEPBUS)
        assert not reference.error, f"{case.name} is no case: {reference.error}"
        found = comparing.differences(reference, stepbus, case.except_for)
        assert not found, report(case.name, found)
        return stepbus

    return compare


@pytest.fixture
def both(outcome_of: Run) -> Both:
    """Runs a case with the reference and with stepbus, which may differ."""

    def outcomes(case: Case) -> tuple[Outcome, Outcome]:
        return outcome_of(case, REFERENCE), outcome_of(case, STEPBUS)

    return outcomes
