"""Samples come in the reference's order: shuffled as accelerate does it, grouped by length."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import RandomSampler, SequentialSampler

from stepbus import ArgumentError, DataError
from stepbus.engine.trainer.samplers import (
    LengthGroupedSampler,
    SeededSampler,
    lengths_of,
    seeded,
)

accelerate: Any = import_module("accelerate.data_loader")
theirs: Any = import_module("transformers.trainer_pt_utils")


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 90),
    seed=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    replacement=st.booleans(),
    part=st.one_of(st.none(), st.integers(1, 150)),
)
def test_epochs_are_shuffled_as_the_reference_shuffles_them(
    size: int, seed: int | None, replacement: bool, part: int | None
) -> None:
    torch.manual_seed(1234)
    options: dict[str, Any] = {"replacement": replacement, "num_samples": part}
    ours = SeededSampler(range(size), seed, **options)
    reference = accelerate.SeedableRandomSampler(range(size), data_seed=seed, **options)
    before = torch.get_rng_state()

    for _ in range(2):
        assert list(ours) == list(reference)
    for sampler in (ours, reference):
        sampler.set_epoch(7)
    assert list(ours) == list(reference)
    assert len(ours) == len(reference)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_order_that_is_left_early_is_the_same_order_again() -> None:
    sampler = SeededSampler(range(20), 3)
    first = next(iter(sampler))
    assert next(iter(sampler)) == first


def test_a_shuffling_sampler_of_torch_s_goes_by_the_seed_whatever_its_generator() -> None:
    given_one = RandomSampler(range(30), generator=torch.Generator().manual_seed(99))
    sampler = seeded(given_one, 5)
    assert list(sampler) == list(accelerate.SeedableRandomSampler(range(30), data_seed=5))
    assert seeded(sampler, 6) is sampler


class Backwards(RandomSampler):
    def __iter__(self) -> Any:
        return iter(range(len(self.data_source) - 1, -1, -1))


@pytest.mark.parametrize("sampler", [SequentialSampler(range(3)), Backwards(range(3)), None])
def test_samplers_with_an_order_of_their_own_keep_it(sampler: Any) -> None:
    assert seeded(sampler, 5) is sampler


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=300),
    batch_size=st.integers(1, 9),
    own=st.booleans(),
)
def test_groups_of_about_the_same_length_are_the_reference_s(
    lengths: list[int], batch_size: int, own: bool
) -> None:
    seen = []
    for sampler in (LengthGroupedSampler, theirs.LengthGroupedSampler):
        torch.manual_seed(42)
        generator = torch.Generator().manual_seed(7) if own else None
        made = sampler(batch_size, lengths=lengths, generator=generator)
        seen.append((len(made), list(made), list(made), torch.get_rng_state().tolist()))
    assert seen[0] == seen[1]


def test_lengths_come_from_the_column_or_from_the_input() -> None:
    datasets = import_module("datasets")
    samples = [{"input_ids": [1] * n, "size": n / 10} for n in (3, 1, 2)]
    table = datasets.Dataset.from_list(samples)
    assert lengths_of(table, "size", "input_ids") == [0.3, 0.1, 0.2]
    assert lengths_of(table.with_format("torch"), "size", "x") == pytest.approx([0.3, 0.1, 0.2])
    assert lengths_of(table, "length", "input_ids") == [3, 1, 2]
    assert lengths_of(samples, "size", "input_ids") == [3, 1, 2]


def test_samples_without_a_length_are_refused_by_what_they_have() -> None:
    with pytest.raises(ArgumentError, match="length of 'input_ids', and the samples have x, y"):
        lengths_of([{"x": 1, "y": 2}], "length", "input_ids")
    with pytest.raises(ArgumentError, match="the samples are no dicts"):
        lengths_of([(1, 2)], "length", "input_ids")
    with pytest.raises(DataError, match="a sample has no 'input_ids' with a length"):
        lengths_of([{"input_ids": [1]}, {"input_ids": None}], "length", "input_ids")
