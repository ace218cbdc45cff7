"""Batches are those of the reference's default collators; what does not fit is named."""

from __future__ import annotations

import dataclasses
from collections import UserDict
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stepbus import ArgumentError, DataError
from stepbus.engine.trainer.collators import (
    DefaultDataCollator,
    PaddingCollator,
    default_collator_for,
    default_data_collator,
)

transformers: Any = import_module("transformers")


@dataclasses.dataclass
class Sample:
    input_ids: list[int]
    label: int
    text: str = "left out"


def assert_same(ours: Any, reference: Any) -> None:
    assert list(ours) == list(reference)
    for name in ours:
        assert type(ours[name]) is type(reference[name]), name
        assert ours[name].dtype == reference[name].dtype, name
        assert ours[name].shape == reference[name].shape, name
        assert (np.asarray(ours[name]) == np.asarray(reference[name])).all(), name


FEATURES: dict[str, list[Any]] = {
    "numbers": [{"x": [1, 2], "label": 1}, {"x": [3, 4], "label": 0}],
    "real labels": [{"x": 1.5, "label": 0.5}, {"x": 2.5, "label": 1}],
    "truth": [{"x": True, "label": True}, {"x": False, "label": False}],
    "label tensors": [{"label": torch.tensor(1)}, {"label": torch.tensor(2)}],
    "real label tensors": [{"label": torch.tensor(1.0)}, {"label": torch.tensor(2.0)}],
    "label of several": [{"label": [1, 0, 1]}, {"label": [0, 0, 1]}],
    "numpy label": [{"label": np.int64(3)}, {"label": np.int64(4)}],
    "numpy real label": [{"label": np.float64(3)}, {"label": np.float64(4)}],
    "label_ids": [{"label_ids": [1, 2]}, {"label_ids": [3, 4]}],
    "real label_ids": [{"label_ids": [0.5, 2]}, {"label_ids": [3, 4]}],
    "label_ids tensors": [{"label_ids": torch.tensor([1, 2])}, {"label_ids": torch.tensor([3, 4])}],
    "both": [{"label": 1, "label_ids": [1]}, {"label": 0, "label_ids": [1]}],
    "label None": [{"label": None, "label_ids": [1], "x": None, "y": 1}] * 2,
    "labels": [{"labels": [1, -100]}, {"labels": [-100, 2]}],
    "text": [{"text": "a", "x": 1}, {"text": "b", "x": 2}],
    "tensors": [{"x": torch.randn(2, 3)}, {"x": torch.randn(2, 3)}],
    "arrays": [{"x": np.ones((2, 3), np.float32)}, {"x": np.zeros((2, 3), np.float32)}],
    "objects": [Sample([1, 2], 1), Sample([3, 4], 0)],
    "mappings": [UserDict(x=[1], label=1), UserDict(x=[2], label=0)],
    "numpy scalars": [{"x": np.float32(1)}, {"x": np.float32(2)}],
    "nested": [{"x": [[1, 2], [3, 4]]}, {"x": [[5, 6], [7, 8]]}],
}


@pytest.mark.parametrize("return_tensors", ["pt", "np"])
@pytest.mark.parametrize("kind", FEATURES)
def test_a_batch_is_the_reference_s(kind: str, return_tensors: str) -> None:
    features = FEATURES[kind]
    reference = transformers.default_data_collator(features, return_tensors)
    assert_same(default_data_collator(features, return_tensors), reference)
    assert_same(DefaultDataCollator(return_tensors)(features), reference)
    assert_same(DefaultDataCollator()(features, return_tensors), reference)


def test_label_ids_in_arrays_make_int64_without_a_warning_of_slowness() -> None:
    features = [
        {"label_ids": np.array([1, 2], np.int32)},
        {"label_ids": np.array([3, 4], np.int32)},
    ]
    with pytest.warns(UserWarning, match="extremely slow"):
        reference = transformers.default_data_collator(features)
    assert_same(default_data_collator(features), reference)


def test_the_given_samples_are_left_as_they_were() -> None:
    features = [{"x": [1], "label": 1}]
    default_data_collator(features)
    assert features == [{"x": [1], "label": 1}]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            [{"ids": [1, 2]}, {"ids": [1]}],
            "values of 'ids' do not make one tensor .* processing_class",
        ),
        ([{"ids": [1], "x": 1}, {"ids": [1]}], "has 'x', and another one of it has only ids"),
        ([(1, 2), (3, 4)], "A sample is a tuple, and the model takes its arguments by name"),
        ([{"x": torch.ones(2)}, {"x": torch.ones(3)}], "values of 'x' do not make one tensor"),
        ([{"label_ids": []}, {"label_ids": []}], "values of 'label_ids' do not make one tensor"),
        ([], "no sample"),
    ],
)
def test_samples_that_do_not_fit_are_named(features: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        default_data_collator(features)


@pytest.mark.parametrize("collate", [default_data_collator, DefaultDataCollator()])
def test_tensors_of_other_frameworks_are_refused(collate: Any) -> None:
    with pytest.raises(ArgumentError, match="return_tensors is 'tf': give 'pt'"):
        collate([{"x": 1}], "tf")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    tokenizers = import_module("tokenizers")
    words = {"[PAD]": 0, "a": 1, "b": 2}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[PAD]"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]")


@pytest.mark.parametrize(
    "options", [{}, {"pad_to_multiple_of": 8}, {"padding": "max_length", "max_length": 6}]
)
@pytest.mark.parametrize("label", ["label", "label_ids", "labels"])
def test_padded_batches_are_the_reference_s(
    tokenizer: Any, options: dict[str, Any], label: str
) -> None:
    features = [{"input_ids": [1, 2, 1], label: 1}, {"input_ids": [2], label: 0}]
    ours = PaddingCollator(tokenizer, **options)(features)
    reference = transformers.DataCollatorWithPadding(tokenizer, **options)(features)
    assert type(ours) is type(reference)
    assert_same(ours, reference)


def test_padding_leaves_the_tokenizer_s_advice_as_it_was(tokenizer: Any) -> None:
    tokenizer.deprecation_warnings.clear()
    PaddingCollator(tokenizer)([{"input_ids": [1]}])
    assert tokenizer.deprecation_warnings == {"Asking-to-pad-a-fast-tokenizer": False}


def test_what_pads_sequences_is_the_default_collator_s_and_nothing_else(tokenizer: Any) -> None:
    feature_extractor = transformers.SequenceFeatureExtractor(1, 16000, 0.0)
    own = SimpleNamespace(pad=lambda features, **options: {"x": len(features)})
    for pads in (tokenizer, feature_extractor, own):
        collator = default_collator_for(pads)
        assert isinstance(collator, PaddingCollator)
        assert collator.processing_class is pads
    assert default_collator_for(own)([1, 2]) == {"x": 2}
    for other in (None, object()):
        assert default_collator_for(other) is default_data_collator


def test_an_image_processor_pads_images_and_not_samples() -> None:
    class Images(transformers.BaseImageProcessor):  # type: ignore[misc]
        def pad(self, images: Any) -> Any:
            return images

    assert default_collator_for(Images()) is default_data_collator
