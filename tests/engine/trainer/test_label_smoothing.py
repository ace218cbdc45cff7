"""Smoothed losses are the reference's, to the bit, and so are their gradients."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepbus.engine.trainer.label_smoothing import LabelSmoother

theirs: Any = import_module("transformers.trainer_pt_utils")


def loss_and_gradient(smoother: Any, logits: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    leaf = logits.clone().requires_grad_()
    loss = smoother({"logits": leaf}, *args, **kwargs)
    loss.backward()
    return loss.detach(), leaf.grad


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    shape=st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 40)),
    shift=st.booleans(),
    count=st.sampled_from([None, 5, torch.tensor(7.0)]),
    epsilon=st.floats(0.01, 0.9),
    seed=st.integers(0, 1000),
)
def test_losses_and_gradients_are_the_reference_s(
    dtype: torch.dtype, shape: Any, shift: bool, count: Any, epsilon: float, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, generator=drawn).mul(4).to(dtype)
    labels = torch.randint(-1, shape[-1], shape[:-1], generator=drawn)
    labels[labels == -1] = -100
    seen = [
        loss_and_gradient(
            smoother(epsilon), logits, labels, shift_labels=shift, num_items_in_batch=count
        )
        for smoother in (LabelSmoother, theirs.LabelSmoother)
    ]
    for ours, reference in zip(*seen, strict=True):
        assert ours.dtype == reference.dtype
        assert torch.equal(torch.nan_to_num(ours, 9), torch.nan_to_num(reference, 9))


@pytest.mark.parametrize("outputs", ["tuple", "mapping"])
def test_labels_of_whole_samples_and_outputs_of_any_kind_are_taken(outputs: str) -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, -7, 1, 1])
    given_outputs: Any = (logits,) if outputs == "tuple" else {"logits": logits}
    ours = LabelSmoother(0.2, ignore_index=-7)(given_outputs, labels)
    assert torch.equal(ours, theirs.LabelSmoother(0.2, ignore_index=-7)(given_outputs, labels))


def test_inputs_are_left_as_they_were() -> None:
    labels = torch.tensor([[1, -100, 0]])
    LabelSmoother()((torch.randn(1, 3, 4),), labels)
    assert labels.tolist() == [[1, -100, 0]]
