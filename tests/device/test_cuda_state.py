"""Generators and tensors of a CUDA device, kept and given back. Run by `make test-device`."""

from __future__ import annotations

from pathlib import Path

import torch

from stepbus.engine.checkpoint.tensors import read_tensors, write_tensors
from stepbus.engine.rng import capture_rng, preserved_rng, restore_rng, set_seed


def test_cuda_generators_are_kept_once_in_use() -> None:
    set_seed(3)
    torch.rand(3, device="cuda")
    state = capture_rng()
    expected = torch.rand(3, device="cuda")
    with preserved_rng():
        torch.rand(3, device="cuda")
    restore_rng(state)
    assert torch.equal(torch.rand(3, device="cuda"), expected)


def test_device_tensors_come_back_on_the_cpu(tmp_path: Path) -> None:
    tensor = torch.randn(300, 300, device="cuda")
    write_tensors(tmp_path / "state", {"a": tensor, "b": tensor.t()})
    back = read_tensors(tmp_path / "state")
    assert torch.equal(back["a"], tensor.cpu())
    assert torch.equal(back["b"], tensor.cpu().t())
