"""Batches are put together exactly as the reference does it, without its copies."""

from __future__ import annotations

from collections import defaultdict
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from stepbus import ArgumentError
from stepbus.engine.trainer.gathering import (
    Gathered,
    denumpify,
    find_batch_size,
    nested_detach,
    speed_metrics,
)

theirs: Any = import_module("transformers.trainer_pt_utils")
trainer_utils: Any = import_module("transformers.trainer_utils")

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32]


def assert_equal(ours: Any, reference: Any) -> None:
    assert type(ours) is type(reference)
    if isinstance(ours, np.ndarray):
        assert (ours.dtype, ours.shape) == (reference.dtype, reference.shape)
        np.testing.assert_array_equal(ours, reference)
    elif isinstance(ours, dict):
        assert list(ours) == list(reference)
        for key in ours:
            assert_equal(ours[key], reference[key])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(reference)
        for mine, other in zip(ours, reference, strict=True):
            assert_equal(mine, other)
    else:
        assert ours == reference


@st.composite
def evaluations(draw: st.DrawFn) -> list[Any]:
    """Batches of one layout: tensors of random shapes in random nesting."""
    num_batches = draw(st.integers(1, 5))
    sizes = [(draw(st.integers(1, 4)), draw(st.integers(1, 5))) for _ in range(num_batches)]

    def leaf() -> list[torch.Tensor]:
        ndim, dtype = draw(st.integers(0, 4)), draw(st.sampled_from(DTYPES))
        tail = (2, 3)[: max(ndim - 2, 0)]
        shapes = [(*size, *tail)[:ndim] for size in sizes]
        return [torch.randint(-9, 9, shape).to(dtype) for shape in shapes]

    def node(depth: int) -> list[Any]:
        kind = draw(st.sampled_from(["leaf", "tuple", "list", "dict"] if depth else ["leaf"]))
        if kind == "leaf":
            return leaf()
        columns = [node(depth - 1) for _ in range(draw(st.integers(0, 3)))]
        rows = [[column[i] for column in columns] for i in range(num_batches)]
        if kind == "dict":
            return [{f"key{n}": value for n, value in enumerate(row)} for row in rows]
        return [tuple(row) if kind == "tuple" else row for row in rows]

    return node(2)


@settings(max_examples=150)
@given(batches=evaluations(), concat=st.booleans(), every=st.integers(1, 6))
def test_whatever_the_shapes_it_gathers_what_the_reference_gathers(
    batches: list[Any], concat: bool, every: int
) -> None:
    ours, reference = Gathered(concat=concat), theirs.EvalLoopContainer(concat)
    for done, batch in enumerate(batches, start=1):
        ours.add(batch)
        reference.add(batch)
        if done % every == 0:
            ours.to_host()
            reference.to_cpu_and_numpy()

    assert_equal(ours.arrays(), reference.get_arrays())


def test_nothing_added_gathers_nothing() -> None:
    assert Gathered().arrays() is None
    assert Gathered(concat=False).arrays() is None


class Outputs(NamedTuple):
    logits: Any
    hidden: Any


def test_named_tuples_stay_what_they_are() -> None:
    gathered = Gathered()
    gathered.add(Outputs(torch.ones(2, 3), torch.ones(2)))
    gathered.add(Outputs(torch.ones(1, 4), torch.ones(1)))

    arrays = gathered.arrays()

    assert isinstance(arrays, Outputs)
    assert arrays.logits[:, 3].tolist() == [-100, -100, 1]


def test_a_slice_of_the_logits_does_not_keep_all_of_them_in_memory() -> None:
    gathered = Gathered()
    logits = torch.randn(2, 50, 10)

    gathered.add((logits[:, -1],))

    (kept,) = gathered._on_device[0]
    assert kept.untyped_storage().nbytes() == 2 * 10 * 4
    np.testing.assert_array_equal(gathered.arrays()[0], logits[:, -1].numpy())


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: defaultdict[str, int] = defaultdict(int)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_adding_copies_nothing_and_a_single_copy_puts_all_together() -> None:
    gathered = Gathered()
    with Operations() as operations:
        for _ in range(20):
            gathered.add(torch.ones(3))
        assert set(operations.names) == {"ones.default"}
        gathered.to_host()
    assert operations.names["cat.default"] == 1


@pytest.mark.parametrize(
    ("second", "difference"),
    [
        ((torch.ones(2, 3),), r"tuple\(Tensor\[\*, \*\]\)"),
        ((torch.ones(2, 3), torch.ones(2, 3, 5)), r"Tensor\[\*, \*, 5\]"),
        ((torch.ones(2, 3), torch.ones(2, 3)), "Tensor"),
        ([torch.ones(2, 3), torch.ones(2, 3, 4)], "list"),
    ],
)
def test_a_batch_that_does_not_fit_is_named_when_it_comes(second: Any, difference: str) -> None:
    gathered = Gathered()
    gathered.add((torch.ones(2, 3), torch.ones(2, 3, 4)))

    with pytest.raises(ArgumentError, match=f"{difference}.*eval_do_concat_batches=False"):
        gathered.add(second)

    listed = Gathered(concat=False)
    listed.add(torch.ones(2, 3, 4))
    listed.add(second)
    assert len(listed.arrays()) == 2


def test_what_is_no_tensor_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ArgumentError, match=r"gave None.*ignore_keys"):
        Gathered().add((torch.ones(2), None))


def test_metrics_become_plain_numbers_as_in_the_reference() -> None:
    metrics = {
        "numpy": np.float32(0.5),
        "tensor": torch.tensor([3]),
        "many": [np.int64(1), (torch.tensor(2.5), "text")],
        "nested": {"flag": np.bool_(True), "none": None},
    }

    plain = denumpify(metrics)

    assert plain == trainer_utils.denumpify_detensorize(metrics)
    assert [type(value) for value in plain["many"]] == [int, tuple]
    assert denumpify({"counts": defaultdict(int, a=np.int64(1))}) == {"counts": {"a": 1}}
    vector = torch.ones(2)
    assert denumpify({"vector": vector})["vector"] is vector


@pytest.mark.parametrize(
    "batch",
    [
        {"flag": torch.tensor(1), "ids": torch.ones(5, 2)},
        [{"text": "x"}, (torch.ones(3),)],
        (np.ones((4, 1)),),
        {"text": ["a", "b"]},
        torch.tensor(2.0),
        {},
    ],
)
def test_the_size_of_a_batch_is_found_as_in_the_reference(batch: Any) -> None:
    assert find_batch_size(batch) == theirs.find_batch_size(batch)


def test_detached_is_every_tensor_and_nothing_else_changes() -> None:
    weight = torch.ones(2, requires_grad=True)
    detached = nested_detach({"a": (weight * 2, None), "b": [weight]})
    assert not detached["a"][0].requires_grad
    assert not detached["b"][0].requires_grad
    assert detached["a"][1] is None


@given(
    seconds=st.floats(0.001, 1e5),
    counts=st.fixed_dictionaries(
        {},
        optional={
            name: st.integers(0, 10**7) for name in ("num_samples", "num_steps", "num_tokens")
        },
    ),
)
def test_speed_metrics_round_like_the_references(seconds: float, counts: dict[str, int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_utils.time, "time", lambda: seconds)
        reference = trainer_utils.speed_metrics("eval", 0.0, **counts)
    ours = speed_metrics("eval", seconds, **counts)
    assert ours == reference
    assert list(ours) == list(reference)


def test_no_time_at_all_gives_no_rates() -> None:
    assert speed_metrics("eval", 0.0, num_samples=3) == {"eval_runtime": 0.0}
