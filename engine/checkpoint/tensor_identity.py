"""When two tensors are one: the same elements of the same storage, seen the same way."""

from __future__ import annotations

import torch

Identity = tuple[object, ...]


def identity(tensor: torch.Tensor) -> Identity | None:
    """A key that tied tensors share, or None for one without memory of its own."""
    address = tensor.untyped_storage().data_ptr() if tensor.numel() else 0
    if address == 0:
        return None
    return (
        tensor.device,
        address,
        tensor.storage_offset(),
        tensor.shape,
        tensor.stride(),
        tensor.dtype,
        tensor.is_conj(),
        tensor.is_neg(),
    )
