"""Losses, and the items they are taken over, are the reference's; a missing loss is explained."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from stepbus import ArgumentError, TrainingArguments
from stepbus.engine.trainer.label_smoothing import LabelSmoother
from stepbus.engine.trainer.losses import (
    TrainerLoss,
    accepts_loss_kwargs,
    loss_of,
    loss_shifts_labels,
    num_items_in_batch,
    smoothing_shifts_labels,
)

transformers: Any = import_module("transformers")


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: Any, labels: Any = None) -> Any:
        logits = self.layer(x)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Declared(Regression):
    accepts_loss_kwargs = True


def gpt2() -> Any:
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 8, "vocab_size": 16}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))


def llama() -> Any:
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 16}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, intermediate_size=8))


def bert() -> Any:
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 16}
    config = transformers.BertConfig(**sizes, intermediate_size=8)
    return transformers.BertForTokenClassification(config)


def t5() -> Any:
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 16}
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(**sizes, decoder_start_token_id=0)
    )


MODELS = {
    "gpt2": gpt2,
    "llama": llama,
    "bert": bert,
    "t5": t5,
    "plain": Regression,
    "declared": Declared,
}


class Ours(TrainerLoss):
    def __init__(self, model: nn.Module, smoothing: float = 0.0, own: Any = None) -> None:
        self.model = model
        self.args = SimpleNamespace(device=torch.device("cpu"))
        self.label_smoother = LabelSmoother(smoothing) if smoothing else None
        self.compute_loss_func = own
        self.model_accepts_loss_kwargs = accepts_loss_kwargs(model)
        self._loss_shifts_labels = loss_shifts_labels(model)


def reference(model: nn.Module, folder: Path, smoothing: float = 0.0, own: Any = None) -> Any:
    options = {"report_to": "none", "use_cpu": True, "label_smoothing_factor": smoothing}
    args = transformers.TrainingArguments(str(folder), **options)
    if not hasattr(model, "config"):
        model.config = SimpleNamespace(problem_type=None)  # type: ignore[assignment]
    return transformers.Trainer(model, args, compute_loss_func=own)


def a_batch(kind: str) -> dict[str, torch.Tensor]:
    if kind in {"plain", "declared"}:
        return {"x": torch.randn(4, 2), "labels": torch.tensor([0, 1, 2, 2])}
    labels = torch.randint(0, 2, (3, 8))
    labels[:, -3:] = -100
    return {"input_ids": torch.randint(0, 16, (3, 8)), "labels": labels}


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_learned_of_a_model_is_what_the_reference_learns(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    theirs = reference(model, tmp_path)
    assert accepts_loss_kwargs(model) == theirs.model_accepts_loss_kwargs
    assert loss_shifts_labels(model) == theirs._loss_shifts_labels
    wrapped: Any = torch.compile(model, backend="eager")
    assert accepts_loss_kwargs(wrapped) == theirs.model_accepts_loss_kwargs


# PEFT asks models whether they are checkpointed, by the former name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_adapters_are_looked_through() -> None:
    peft = import_module("peft")
    model = peft.get_peft_model(llama(), peft.LoraConfig(target_modules=["q_proj"]))
    assert accepts_loss_kwargs(model)
    assert loss_shifts_labels(model)
    assert smoothing_shifts_labels(model)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "declared"])
def test_losses_are_the_reference_s(
    kind: str, counted: bool, smoothing: float, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    ours, theirs = Ours(model, smoothing), reference(model, tmp_path, smoothing)
    batch = a_batch(kind)
    if kind == "t5" and smoothing:
        batch["decoder_input_ids"] = batch["input_ids"]
    items = ours._num_items_in_batch([batch, batch]) if counted else None
    expected_items = (
        theirs._get_num_items_in_batch([batch, batch], torch.device("cpu")) if counted else None
    )
    if expected_items is None:
        assert items is None
    else:
        assert items is not None
        assert items.dtype == expected_items.dtype
        assert torch.equal(items, expected_items)

    seen = []
    for trainer in (ours, theirs):
        inputs = dict(batch)
        loss, outputs = trainer.compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=items
        )
        only = trainer.compute_loss(model, dict(batch), num_items_in_batch=items)
        assert torch.equal(only, loss)
        seen.append((loss, outputs["logits"], list(inputs)))
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])
    assert seen[0][2] == seen[1][2]


@pytest.mark.parametrize("kind", ["gpt2", "plain"])
def test_a_loss_of_the_user_s_gets_what_it_gets_there(kind: str, tmp_path: Path) -> None:
    calls = []

    def own(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        calls.append((sorted(outputs), labels.tolist(), num_items_in_batch))
        return outputs["logits"].sum() / num_items_in_batch

    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    batch = a_batch(kind)
    losses = [
        trainer.compute_loss(model, dict(batch), num_items_in_batch=torch.tensor(5.0))
        for trainer in (Ours(model, 0.1, own), reference(model, tmp_path, 0.1, own))
    ]
    assert torch.equal(*losses)
    assert calls[0] == calls[1]


def test_a_loss_of_the_user_s_without_labels_is_called_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours = Ours(Regression(), own=lambda outputs, labels, num_items_in_batch: labels)
    for _ in range(2):
        assert ours.compute_loss(ours.model, {"x": torch.ones(1, 2)}) is None
    (message,) = caplog.messages
    assert "called with labels=None: the batches have no 'labels', only x." in message


def test_items_are_counted_where_they_can_be_and_only_for_who_takes_them() -> None:
    labels = torch.tensor([[5, -100, 7], [-100, 2, 3]])
    batch = {"labels": labels}
    count = num_items_in_batch([batch])
    assert count is not None
    assert (count.dtype, count.item(), count.ndim) == (torch.float32, 4, 0)
    assert num_items_in_batch([batch, batch], shifts_labels=True) == 6
    shifted = {"labels": labels, "shift_labels": torch.tensor([1, -100])}
    assert num_items_in_batch([shifted], shifts_labels=True) == 1
    assert num_items_in_batch([batch], device=torch.device("meta")).device.type == "meta"  # type: ignore[union-attr]
    for uncountable in ([], [{"x": 1}], [{"labels": [{"boxes": labels}]}], [{"labels": None}]):
        assert num_items_in_batch(uncountable, shifts_labels=True) is None
    assert Ours(Regression())._num_items_in_batch([batch]) is None
    assert Ours(Regression(), own=len)._num_items_in_batch([batch]) == 4


@pytest.mark.parametrize(
    "outputs",
    [
        {"loss": torch.tensor(2.0), "logits": torch.ones(3)},
        (torch.tensor(2.0), torch.ones(3)),
        [torch.tensor(2.0)],
        torch.tensor(2.0),
        SimpleNamespace(loss=torch.tensor(2.0)),
    ],
)
def test_a_loss_is_found_in_whatever_a_model_returns(outputs: Any) -> None:
    assert loss_of(outputs, {}) == 2.0


@pytest.mark.parametrize(
    ("outputs", "returned"),
    [
        ({"logits": 1, "hidden": 2}, "no loss, only logits, hidden; it was given x, mask. "),
        ({"loss": None}, "no loss, only loss; it was given x, mask. "),
        ((torch.ones(2, 3),), "no loss, but a tuple; it was given x, mask. "),
        ((), "no loss, but a tuple; it was given x, mask. "),
        (torch.ones(2, 3), "no loss, but a tensor of shape (2, 3); it was given x, mask. "),
        (None, "no loss, but a NoneType; it was given x, mask. "),
    ],
)
def test_a_missing_loss_is_explained_by_the_missing_labels(outputs: Any, returned: str) -> None:
    with pytest.raises(ArgumentError) as error:
        loss_of(outputs, {"x": 1, "mask": 2})
    assert returned in str(error.value)
    assert "No label is among these" in str(error.value)
    assert "remove_unused_columns" in str(error.value)


def test_a_missing_loss_in_spite_of_labels_is_explained() -> None:
    with pytest.raises(ArgumentError, match=r"it was given x, labels\. Let the model return it"):
        loss_of({"logits": 1}, {"x": 1, "labels": 2})


def test_the_loss_of_a_model_without_labels_is_explained_through_compute_loss() -> None:
    ours = Ours(Regression())
    with pytest.raises(ArgumentError, match=r"only logits; it was given x\. No label is among"):
        ours.compute_loss(ours.model, {"x": torch.ones(1, 2)})


def test_arguments_of_the_real_kind_are_enough(tmp_path: Path) -> None:
    ours = Ours(Declared())
    ours.args = TrainingArguments(str(tmp_path), use_cpu=True)
    items = ours._num_items_in_batch([{"labels": torch.tensor([1, -100])}])
    assert items == 1
