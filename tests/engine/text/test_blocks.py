from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from stepbus.engine.text import BlockDataset
from stepbus.schemas.errors import ArgumentError, DataError


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 60))
def test_blocks_cover_the_text_and_labels_are_one_further_on(
    block_size: int, stride: int, extra: int
) -> None:
    ids = torch.arange(block_size + 1 + extra, dtype=torch.int32)
    dataset = BlockDataset(ids, block_size, stride)
    starts = range(0, len(ids) - block_size, stride)
    assert len(dataset) == len(starts)
    for index, start in enumerate(starts):
        block = dataset[index]
        assert block["input_ids"].dtype == block["labels"].dtype == torch.int64
        assert block["input_ids"].tolist() == list(range(start, start + block_size))
        assert block["labels"].tolist() == list(range(start + 1, start + block_size + 1))


def test_default_stride_shows_each_character_once() -> None:
    dataset = BlockDataset(torch.arange(25), 8)
    blocks = [dataset[index] for index in range(len(dataset))]
    seen = [number for block in blocks for number in block["labels"].tolist()]
    assert seen == list(range(1, 25))


def test_loader_order_comes_from_its_generator_alone() -> None:
    dataset = BlockDataset(torch.arange(1000), 8)

    def epoch(global_seed: int, loader_seed: int) -> list[int]:
        torch.manual_seed(global_seed)
        generator = torch.Generator().manual_seed(loader_seed)
        loader = DataLoader(dataset, batch_size=4, shuffle=True, generator=generator)
        return [number for batch in loader for number in batch["input_ids"][:, 0].tolist()]

    assert epoch(1, 7) == epoch(2, 7)
    assert epoch(1, 7) != epoch(1, 8)
    assert sorted(epoch(1, 7)) == list(range(0, 992, 8))


def test_default_collate_makes_batches_for_the_model() -> None:
    batch = next(iter(DataLoader(BlockDataset(torch.arange(100), 8), batch_size=3)))
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_ids": (3, 8),
        "labels": (3, 8),
    }


def test_index_outside_is_an_index_error() -> None:
    dataset = BlockDataset(torch.arange(25), 8)
    for index in (3, -1):
        with pytest.raises(IndexError):
            dataset[index]


def test_bad_sizes_and_short_texts_are_refused() -> None:
    with pytest.raises(ArgumentError, match="block_size is 0"):
        BlockDataset(torch.arange(9), 0)
    with pytest.raises(ArgumentError, match="stride 0"):
        BlockDataset(torch.arange(9), 2, stride=0)
    with pytest.raises(DataError, match="has 8 characters and a block takes 9"):
        BlockDataset(torch.arange(8), 8)
