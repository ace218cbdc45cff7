"""What a model is given is what its forward takes, found as the reference finds it."""

from __future__ import annotations

import pickle
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from stepbus import ArgumentError, DataError
from stepbus.engine.trainer.columns import (
    AcceptedColumns,
    accepted_columns,
    base_model,
    can_return_loss,
    find_label_names,
    unwrapped,
    without_surplus,
)

generic: Any = import_module("transformers.utils.generic")
transformers: Any = import_module("transformers")
datasets: Any = import_module("datasets")


class Plain(nn.Module):
    def forward(self, x: Any, y: Any = None, labels: Any = None, return_loss: bool = True) -> Any:
        return x


class Anything(nn.Module):
    def forward(self, **kwargs: Any) -> Any:
        return kwargs


def tiny_gpt2() -> Any:
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=8, vocab_size=16)
    return transformers.GPT2LMHeadModel(config)


@pytest.mark.parametrize(
    "name",
    [
        "GPT2LMHeadModel",
        "BertForQuestionAnswering",
        "BertForPreTraining",
        "CLIPModel",
        "T5ForConditionalGeneration",
        "DetrForObjectDetection",
        "GPT2DoubleHeadsModel",
    ],
)
def test_labels_and_losses_of_transformers_models_are_found_as_there(name: str) -> None:
    model_class = getattr(transformers, name)
    assert find_label_names(model_class) == generic.find_labels(model_class)
    assert can_return_loss(model_class) == generic.can_return_loss(model_class)


def test_labels_and_losses_of_a_plain_module_are_found_as_there() -> None:
    for model_class in (Plain, Anything, nn.Linear):
        assert find_label_names(model_class) == generic.find_labels(model_class)
        assert can_return_loss(model_class) == generic.can_return_loss(model_class)


def test_columns_are_the_forward_s_and_the_labels() -> None:
    columns = accepted_columns(Plain(), ["labels", "more"])
    assert columns == ["x", "y", "labels", "return_loss", "label", "label_ids", "more"]


# PEFT asks models whether they are checkpointed, by the former name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_adapters_are_looked_through() -> None:
    peft = import_module("peft")
    model = tiny_gpt2()
    bare = accepted_columns(model, [])
    config = peft.LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)
    for mixed in (False, True):
        with_adapters = peft.get_peft_model(model, config, mixed=mixed)
        assert base_model(with_adapters) is model
        assert accepted_columns(with_adapters, []) == bare
        model = with_adapters.unload()
    assert base_model(model) is model


def test_wrappers_of_torch_are_looked_through() -> None:
    model = Plain()
    assert unwrapped(model) is model
    assert unwrapped(torch.compile(model, backend="eager")) is model  # type: ignore[arg-type]
    assert unwrapped(nn.DataParallel(model)) is model


def test_a_table_loses_the_columns_that_the_model_does_not_take() -> None:
    table = datasets.Dataset.from_dict({"text": ["a"], "x": [1], "label": [0], "size": [1]})
    kept = without_surplus(table, accepted_columns(Plain(), []), Plain(), "Training")
    assert kept.column_names == ["x", "label"]
    assert table.column_names == ["text", "x", "label", "size"]
    assert without_surplus(kept, ["x", "label"], Plain(), "Training") is kept


def test_a_table_of_which_nothing_fits_is_refused_with_both_sides() -> None:
    table = datasets.Dataset.from_dict({"text": ["a"], "source": ["b"]})
    with pytest.raises(ArgumentError) as error:
        without_surplus(table, accepted_columns(Plain(), []), Plain(), "Training")
    assert str(error.value).startswith(
        "Training: the data has text, source, and of these Plain.forward takes none; it takes x, "
        "y, labels, return_loss, label, label_ids. "
    )


def listed(samples: list[Any]) -> list[Any]:
    return samples


def test_a_collator_gets_the_keys_that_the_model_takes() -> None:
    collate = AcceptedColumns(listed, accepted_columns(Plain(), []), Plain(), "Training")
    same = SimpleNamespace(z=1)
    samples = [{"z": 1, "y": 2, "x": 3}, {"x": 4, "q": 5}, same, (1, 2)]
    assert collate(samples) == [{"y": 2, "x": 3}, {"x": 4}, same, (1, 2)]
    assert samples[0] == {"z": 1, "y": 2, "x": 3}
    assert pickle.loads(pickle.dumps(collate))([{"x": 1, "z": 2}]) == [{"x": 1}]


def test_samples_of_which_nothing_fits_are_refused_with_both_sides() -> None:
    collate = AcceptedColumns(listed, accepted_columns(Anything(), []), Anything(), "Evaluation")
    with pytest.raises(DataError, match=r"has a, b, and of these Anything.forward takes none; .*"):
        collate([{"a": 1, "b": 2}])


def test_what_is_left_out_is_said_once_to_who_wants_to_know(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "stepbus")
    collate = AcceptedColumns(listed, ["x"], Plain(), "Training")
    collate([{"x": 1, "z": 2}])
    collate([{"x": 1, "z": 2}])
    (message,) = caplog.messages
    assert "Training: Plain.forward does not take z, so the model is not given it." in message
