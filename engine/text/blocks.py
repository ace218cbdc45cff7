"""A text cut into blocks of equal length: what a DataLoader draws its batches from."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...schemas.errors import ArgumentError, DataError


class BlockDataset(Dataset[dict[str, Tensor]]):
    """Blocks of ``block_size`` characters, each with the characters that follow as labels.

    Blocks begin every ``stride`` characters (default ``block_size``: side by side, so that an epoch
    shows each character once); a remainder shorter than a block is left out. The dataset has no
    state and draws no random number: the order of the data is the loader's alone.
    """

    def __init__(self, ids: Tensor, block_size: int, stride: int | None = None) -> None:
        """Cut ``ids``, one dimension of integers.

        Raises ArgumentError for a size below 1, DataError where ``ids`` is shorter than one block.
        """
        stride = block_size if stride is None else stride
        if block_size < 1 or stride < 1:
            raise ArgumentError(
                f"block_size is {block_size} and stride {stride}; both must be at least 1."
            )
        if len(ids) < block_size + 1:
            raise DataError(
                f"The text has {len(ids)} characters and a block takes {block_size + 1}; "
                "give more text or a smaller block size."
            )
        self.block_size = block_size
        self.stride = stride
        self._ids = ids

    def __len__(self) -> int:
        return (len(self._ids) - self.block_size - 1) // self.stride + 1

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``input_ids`` and ``labels``, each (block_size,) int64; labels are one further on."""
        if not 0 <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        start = index * self.stride
        characters = self._ids[start : start + self.block_size + 1].to(torch.int64)
        return {"input_ids": characters[:-1], "labels": characters[1:]}
