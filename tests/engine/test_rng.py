from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch

from stepbus.engine.checkpoint.joining import join
from stepbus.engine.checkpoint.values import split
from stepbus.engine.rng import (
    PreservedRng,
    capture_rng,
    enable_full_determinism,
    preserved_rng,
    restore_rng,
    set_seed,
)
from stepbus.schemas.errors import ArgumentError


@pytest.fixture(autouse=True)
def same_generators_after() -> Iterator[None]:
    state = capture_rng()
    yield
    restore_rng(state)


def draw() -> list[float]:
    """From every generator, and an odd number of normal deviates, so that one is left over."""
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.random()),
        float(np.random.normal()),
        torch.rand(()).item(),
        torch.randn(()).item(),
    ]


def test_the_same_seed_gives_the_same_numbers() -> None:
    set_seed(3)
    first = draw()
    set_seed(3)
    assert draw() == first
    set_seed(4)
    assert all(one != other for one, other in zip(draw(), first, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "1", True, None])
def test_a_seed_out_of_range_is_refused(seed: Any) -> None:
    with pytest.raises(ArgumentError, match="seed must be a whole number from 0 to 4294967295"):
        set_seed(seed)


@pytest.mark.parametrize("drawn_before", [0, 1, 2])
def test_restored_generators_go_on_where_they_were(drawn_before: int) -> None:
    set_seed(5)
    for _ in range(drawn_before):
        draw()
    state = capture_rng()
    expected = [draw() for _ in range(3)]
    restore_rng(state)
    assert [draw() for _ in range(3)] == expected


def test_the_state_survives_a_checkpoint() -> None:
    set_seed(6)
    draw()
    tensors, document = split(capture_rng())
    expected = draw()
    restore_rng(join(json.loads(json.dumps(document)), tensors))
    assert draw() == expected


CONTEXTS: list[Callable[[], AbstractContextManager[None]]] = [preserved_rng, PreservedRng]


def fail_inside(context: AbstractContextManager[None]) -> None:
    with context:
        draw()
        set_seed(-1)


@pytest.mark.parametrize("make", CONTEXTS)
def test_what_is_drawn_inside_does_not_count(
    make: Callable[[], AbstractContextManager[None]],
) -> None:
    set_seed(7)
    expected = [draw() for _ in range(3)]
    set_seed(7)
    with make():
        draw()
    assert draw() == expected[0]
    with pytest.raises(ArgumentError):
        fail_inside(make())
    assert [draw(), draw()] == expected[1:]


def test_one_context_serves_many_steps_whatever_is_drawn_where() -> None:
    def run(kept: PreservedRng | None) -> list[list[float]]:
        set_seed(8)
        values = []
        for step in range(60):
            if kept is not None:
                with kept:
                    disturb(step, kept)
            if step % 4 == 1:
                values.append([float(np.random.normal())])
            if step % 5 == 2:
                values.append(draw())
        values.append(draw())
        return values

    assert run(PreservedRng()) == run(None)


def disturb(step: int, kept: PreservedRng) -> None:
    """Takes every way of changing the generators in turn."""
    if step % 3 == 0:
        np.random.normal()
    if step % 7 == 1:
        draw()
    if step % 11 == 3:
        set_seed(step)
    if step % 13 == 4:
        with kept:
            draw()


def test_only_a_kept_normal_deviate_was_taken_inside() -> None:
    kept = PreservedRng()
    set_seed(9)
    np.random.normal()
    expected = np.random.normal()
    set_seed(9)
    np.random.normal()
    for _ in range(3):
        with kept:
            np.random.normal()
    assert np.random.normal() == expected


def test_another_global_generator_of_numpy_is_kept_as_well() -> None:
    npr: Any = np.random
    before = npr.get_bit_generator()
    kept = PreservedRng()
    try:
        npr.set_bit_generator(np.random.PCG64(3))
        with kept:
            np.random.random()
        first = np.random.random()
        assert first == np.random.RandomState(np.random.PCG64(3)).random()
    finally:
        npr.set_bit_generator(before)


WITHOUT_NUMPY = """
import sys
import torch
from stepbus.engine.rng import PreservedRng, capture_rng, preserved_rng, restore_rng
for name in [name for name in sys.modules if name.split(".")[0] == "numpy"]:
    del sys.modules[name]
state = capture_rng()
restore_rng(state)
kept = PreservedRng()
for context in (preserved_rng(), kept, kept):
    with context:
        torch.rand(1)
assert state["numpy"] is None, state
assert state["cuda"] is None
assert "numpy" not in sys.modules
"""


@pytest.mark.slow
def test_numpy_is_not_loaded_for_it() -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMPY], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr


def test_full_determinism_forbids_what_is_not_deterministic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (
        "CUDA_LAUNCH_BLOCKING",
        "CUBLAS_WORKSPACE_CONFIG",
        "FLASH_ATTENTION_DETERMINISTIC",
    ):
        monkeypatch.setenv(name, "")
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        enable_full_determinism(3)
        first = draw()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        enable_full_determinism(3, warn_only=True)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert draw() == first
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
