"""A small character-level GPT: pre-norm blocks, fused attention, GELU, learned positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

from ...schemas.errors import ArgumentError


@dataclass(frozen=True)
class CharGPTConfig:
    """The shape of a :class:`CharGPT`.

    ``block_size`` is the longest context, in characters. Raises ArgumentError where the numbers
    do not make a model.
    """

    vocab_size: int
    block_size: int = 96
    num_layers: int = 4
    num_heads: int = 4
    width: int = 128
    dropout: float = 0.0
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "num_layers", "num_heads", "width"):
            value = getattr(self, name)
            if value < 1:
                raise ArgumentError(f"{name} is {value}; it must be at least 1.")
        if self.width % self.num_heads:
            raise ArgumentError(
                f"width {self.width} cannot be shared among {self.num_heads} heads; "
                "choose a width that is a multiple of num_heads."
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ArgumentError(f"dropout is {self.dropout}; it must be in [0, 1).")


@dataclass(frozen=True)
class CharGPTOutput:
    """What :meth:`CharGPT.forward` returns.

    ``logits`` has shape (batch, time, vocab_size); ``loss`` is the mean cross-entropy in nats per
    character, a scalar, or None when no labels were given.
    """

    logits: Tensor
    loss: Tensor | None = None


class Attention(nn.Module):
    """Causal self-attention over several heads."""

    def __init__(self, config: CharGPTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.projection = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        heads = self.qkv(x).view(batch, time, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.dropout if self.training else 0.0
        y = scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        merged: Tensor = self.projection(y.transpose(1, 2).reshape(batch, time, width))
        return merged


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each behind a norm and added to what came in."""

    def __init__(self, config: CharGPTConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.mlp_up = nn.Linear(config.width, 4 * config.width)
        self.mlp_down = nn.Linear(4 * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        hidden = gelu(self.mlp_up(self.mlp_norm(x)))
        y: Tensor = x + self.dropout(self.mlp_down(hidden))
        return y


class CharGPT(nn.Module):
    """A GPT over characters.

    The dataset shifts the labels: ``labels[:, t]`` is the character after ``input_ids[:, t]``.
    """

    def __init__(self, config: CharGPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.block_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        """GPT-2's: normal(0.02), the projections back into the residual stream scaled down."""
        residual_std = 0.02 / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith(("projection.weight", "mlp_down.weight")):
                nn.init.normal_(parameter, std=residual_std)
            elif parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        if self.config.tie_embeddings:
            self.head.weight = self.token_embedding.weight

    @property
    def num_parameters(self) -> int:
        """How many trained numbers the model has."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> CharGPTOutput:
        """Score the character after each of ``input_ids``, (batch, time) int64 with time at most
        ``block_size``; with ``labels`` of the same shape the loss as well.

        Raises ArgumentError for a sequence longer than ``block_size``.
        """
        time = input_ids.shape[1]
        if time > self.config.block_size:
            raise ArgumentError(
                f"The sequence has {time} characters and the model reads {self.config.block_size} "
                "at most; pass the last ones only."
            )
        positions = torch.arange(time, device=input_ids.device)
        x = self.dropout(self.token_embedding(input_ids) + self.position_embedding(positions))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.final_norm(x))
        if labels is None:
            return CharGPTOutput(logits)
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten())
        return CharGPTOutput(logits, loss)
