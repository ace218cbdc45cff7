from __future__ import annotations

import json
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stepbus.engine.checkpoint.joining import join
from stepbus.engine.checkpoint.values import TENSOR_DTYPES, split
from stepbus.schemas.errors import CheckpointError

Same = Callable[[Any, Any], bool]

NUMBERS = (
    hnp.scalar_dtypes()
    .filter(lambda dtype: dtype.kind in "biufcMm")
    .flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
)
KEYS = st.one_of(
    st.text(max_size=6), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=2**400),
    st.floats(),
    st.text(max_size=10),
    st.binary(max_size=20),
    NUMBERS,
    NUMBERS.filter(lambda array: array.size > 0).map(lambda array: array.flat[0]),
    hnp.arrays(np.float32, (2, 3), elements=st.floats(width=32)).map(torch.from_numpy),
    st.sampled_from(sorted(TENSOR_DTYPES, key=str)).map(lambda d: torch.ones(2, 2).to(d)),
    st.sampled_from([torch.bfloat16, torch.device("cuda", 1), torch.Size([2, 0])]),
)
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict),
        st.dictionaries(st.integers(), st.integers(), max_size=3).map(Counter),
    ),
    max_leaves=20,
)


def through_json(value: Any) -> Any:
    tensors, document = split(value)
    return join(json.loads(json.dumps(document, allow_nan=False)), tensors)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@given(NESTED)
@settings(deadline=None)
def test_any_nested_value_comes_back_exactly(same: Same, value: Any) -> None:
    assert same(through_json(value), value)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -0.0,
        5e-324,
        2**63,
        -(2**63) - 1,
        [10**5000],
        ["\ud800 lone surrogate"],
        {1: "a", "1": "b", None: "c", 2.5: "d", False: "e"},
        np.float64(1.5),
        np.array(7),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.zeros((0, 3), np.int8),
    ],
)
def test_values_that_plain_json_would_change(same: Same, value: Any) -> None:
    assert same(through_json(value), value)


def test_the_bits_of_a_nan_are_kept() -> None:
    odd = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]
    assert struct.pack(">d", through_json([odd])[0]).hex() == "fff8000000000123"


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        ({"a": {"b": [1, {3}]}}, "a.b.1", "builtins.set"),
        ({"schedule": lambda step: step}, "schedule", "builtins.function"),
        ([torch.eye(2).to_sparse()], "0", "torch.sparse_coo"),
        ([torch.empty(2, device="meta")], "0", "meta"),
        ([np.array([object()])], "0", "object"),
        ([np.array(["text"])], "0", "<U4"),
        ({"generator": torch.Generator()}, "generator", "Generator"),
        ([True, 3 + 4j], "1", "complex"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_path_and_type(
    value: object, path: str, kind: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        split(value)
    assert f"Cannot store {path} in a checkpoint" in str(caught.value)
    assert kind in str(caught.value)
    assert "may hold dict" in str(caught.value)


def test_a_key_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"Cannot store a .*its key \(1, 2\) is a tuple"):
        split({"a": {(1, 2): 3}})


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(CheckpointError, match="it holds itself"):
        split({"loop": loop})


def test_a_value_nested_too_deeply_is_refused() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CheckpointError, match="nested too deeply"):
        split(deep)


def test_a_tensor_that_occurs_twice_is_named_once_and_stays_one() -> None:
    weight = torch.ones(3)
    value = {"a": weight, "b": {"c": weight, "view": weight[:2]}}
    tensors, document = split(value)
    assert sorted(tensors) == ["a", "b.view"]
    back = join(document, tensors)
    assert back["a"] is back["b"]["c"]


def test_two_empty_tensors_are_not_taken_for_one(same: Same) -> None:
    value = [torch.empty(0), torch.empty(0, dtype=torch.int64), torch.empty(2, 0)]
    assert same(through_json(value), value)


def test_names_that_look_alike_stay_apart() -> None:
    value = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, 1: torch.ones(2)}
    value["1"] = torch.zeros(2)
    tensors, document = split(value, "state")
    assert sorted(tensors) == ["state.1", "state.1~2", "state.a%2Eb", "state.a.b"]
    back = join(document, tensors)
    assert back["1"].tolist() == [0, 0]
    assert back[1].tolist() == [1, 1]


def test_memory_formats_are_kept(same: Same) -> None:
    picture = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    value = [picture.to(memory_format=torch.channels_last), torch.arange(6.0).reshape(2, 3).t()]
    tensors, document = split(value)
    stored = {name: tensor.contiguous() for name, tensor in tensors.items()}
    assert same(join(document, stored), value)


def test_lazy_conjugates_are_resolved() -> None:
    value = torch.tensor([1 + 2j]).conj()
    tensors, document = split([value])
    assert not tensors["0"].is_conj()
    assert join(document, tensors)[0].tolist() == [1 - 2j]


def test_a_parameter_comes_back_as_a_plain_tensor() -> None:
    back = through_json([torch.nn.Parameter(torch.ones(2))])[0]
    assert type(back) is torch.Tensor
    assert not back.requires_grad


def test_the_versions_in_a_modules_state_are_kept(same: Same) -> None:
    state: Any = torch.nn.Sequential(torch.nn.BatchNorm1d(2)).state_dict()
    back = through_json(state)
    assert same(back, state)
    assert same(back._metadata, state._metadata)


SCHEDULES: list[Callable[[torch.optim.Optimizer], Any]] = [
    lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 2, 5]),
    lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=9),
    lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o),
    lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o),
            torch.optim.lr_scheduler.ExponentialLR(o, gamma=0.5),
        ],
        milestones=[2],
    ),
]


@pytest.mark.parametrize("make", SCHEDULES)
def test_states_of_schedules_come_back_exactly(
    same: Same, make: Callable[[torch.optim.Optimizer], Any]
) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    schedule = make(optimizer)
    optimizer.step()
    schedule.step(*([0.5] if "Plateau" in type(schedule).__name__ else []))
    state = schedule.state_dict()
    assert same(through_json(state), state)


@pytest.mark.parametrize(
    "document",
    [
        {"pickle": "x"},
        {},
        {"tensor": "unknown"},
        {"tensor": "a", "strides": [0, 0]},
        {"tensor": "a", "strides": [2**40, 1]},
        {"tensor": "a", "strides": [1]},
        {"int": "rm -rf"},
        {"bytes": "***"},
        {"scalar": "AAAAAAAAAAA=", "dtype": "|O"},
        {"array": "a", "dtype": "|O", "shape": [1], "order": "C"},
        {"array": "a", "dtype": "<f4", "shape": [10**6], "order": "C"},
        {"torch_dtype": "load"},
        {"device": "nowhere"},
        {"items": [["key"]]},
        {"dict": [1]},
    ],
)
def test_a_damaged_document_is_refused(document: Any) -> None:
    with pytest.raises(CheckpointError, match="document of a saved state is damaged"):
        join([document], {"a": torch.ones(2, 2)})
