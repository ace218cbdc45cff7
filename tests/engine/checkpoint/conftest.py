"""What the tests of checkpoints share: equality to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def same() -> Callable[[Any, Any], bool]:
    """Whether two nested values are the same in type, order and every bit."""
    return _same


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return bool(alike and one.stride() == other.stride() and _bits(one) == _bits(other))
    if isinstance(one, np.ndarray):
        alike = one.dtype == other.dtype and one.shape == other.shape
        order = one.flags.f_contiguous == other.flags.f_contiguous
        return bool(alike and order and one.tobytes() == other.tobytes())
    if isinstance(one, np.generic):
        return bool(one.dtype == other.dtype and one.tobytes() == other.tobytes())
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            _same(key, key2) and _same(item, item2)
            for (key, item), (key2, item2) in zip(one.items(), other.items(), strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float):
        return one.hex() == other.hex() or (one != one and other != other)
    return bool(one == other)


def _bits(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().contiguous().flatten().view(torch.uint8)
    return bytes(flat.numpy().tobytes())
