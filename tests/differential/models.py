"""Tiny models, each with one property that a Trainer must cope with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.differential.data import VOCABULARY, WIDTH
from tests.differential.libraries import PEFT, REFERENCE, TOKENIZERS


class Regression(nn.Module):
    """Gives a tuple (loss, output); dropout makes it depend on the random numbers."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.hidden = nn.Linear(WIDTH, 6)
        self.norm = nn.LayerNorm(6)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(6, 1)

    def predict(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(F.gelu(self.norm(self.hidden(x))))
        return self.out(hidden)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        found = self.predict(x)
        return (found,) if labels is None else (F.mse_loss(found, labels), found)


class DictRegression(Regression):
    """Gives a dict, with something in it that is no prediction."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        found = self.predict(x)
        outputs = {"prediction": found, "hidden": self.hidden(x)}
        return outputs if labels is None else {"loss": F.mse_loss(found, labels)} | outputs


class LossKeywords(Regression):
    """Takes further keywords, so that it is told the number of items of the whole step."""

    def forward(self, x: Tensor, labels: Tensor | None = None, **keywords: Any) -> Any:
        found = self.predict(x)
        if labels is None:
            return (found,)
        count = keywords.get("num_items_in_batch")
        total = F.mse_loss(found, labels, reduction="sum")
        return (total / (labels.numel() if count is None else count), found)


class RefusesLossKeywords(LossKeywords):
    """Says that it takes none, whatever its signature says."""

    accepts_loss_kwargs = False

    def forward(self, x: Tensor, labels: Tensor | None = None, **keywords: Any) -> Any:
        assert not keywords
        return super().forward(x, labels)


class OtherNames(Regression):
    """Its labels go by other names."""

    def forward(self, x: Tensor, target: Tensor | None = None, weight: Tensor | None = None) -> Any:
        found = self.predict(x)
        if target is None:
            return (found,)
        scale = 1.0 if weight is None else weight
        return ((scale * (found - target) ** 2).mean(), found)


class TwoOutputs(Regression):
    """Gives two predictions beside the loss."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        found = self.predict(x)
        more = (found, torch.cat([found, -found], dim=1))
        return more if labels is None else (F.mse_loss(found, labels), *more)


class Infinite(Regression):
    """Its loss is no number in some of its calls, counted in training or in evaluations."""

    def __init__(
        self, bad: tuple[int, ...] = (3,), value: float = float("nan"), in_training: bool = True
    ) -> None:
        super().__init__()
        self.bad, self.value, self.in_training = bad, value, in_training
        self.calls = 0

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        loss, found = super().forward(x, labels)
        counted = self.training == self.in_training
        self.calls += counted
        if counted and self.calls in self.bad:
            # Weights stay what they are: only the loss is hit, not its gradient.
            loss = loss + (torch.tensor(self.value) - loss).detach()
        return loss, found


class Frozen(Regression):
    """A part of it is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden.requires_grad_(False)


class Normalised(nn.Module):
    """Has buffers that move in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        found = self.out(self.norm(x))
        return (found,) if labels is None else (F.mse_loss(found, labels), found)


class Pairs(nn.Module):
    """Takes batches that are no dicts, through a subclass of the Trainer."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x)  # type: ignore[no-any-return]


def gpt2(**changed: Any) -> Any:
    """A tiny GPT-2, with its default dropout."""
    sizes: dict[str, Any] = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 16}
    config = REFERENCE.GPT2Config(
        vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, pad_token_id=0, **sizes | changed
    )
    return REFERENCE.GPT2LMHeadModel(config)


def classifier(**changed: Any) -> Any:
    """A tiny BERT for three classes."""
    sizes: dict[str, Any] = {
        "num_hidden_layers": 1,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "max_position_embeddings": 16,
        "num_labels": 3,
    }
    config = REFERENCE.BertConfig(vocab_size=VOCABULARY, **sizes | changed)
    return REFERENCE.BertForSequenceClassification(config)


def adapted() -> Any:
    """A tiny GPT-2 with an adapter, which alone is trained and saved."""
    return PEFT.get_peft_model(
        gpt2(), PEFT.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"])
    )


def tokenizer() -> Any:
    """A tokenizer of the numbers below the vocabulary's size."""
    words = ["<pad>", *(str(number) for number in range(1, VOCABULARY))]
    model = TOKENIZERS.models.WordLevel({word: n for n, word in enumerate(words)}, "<pad>")
    made = TOKENIZERS.Tokenizer(model)
    made.pre_tokenizer = TOKENIZERS.pre_tokenizers.Whitespace()
    return REFERENCE.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>")
