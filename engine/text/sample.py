"""Text written by the model, one character at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from ...schemas.errors import ArgumentError
from .corpus import Vocabulary
from .evaluation import evaluation_mode
from .model import CharGPT


def generate(
    model: CharGPT,
    vocabulary: Vocabulary,
    prompt: str,
    num_chars: int,
    *,
    temperature: float = 0.8,
    top_k: int | None = None,
    seed: int = 0,
) -> str:
    """``prompt`` and ``num_chars`` characters that the model adds to it.

    ``temperature`` 0 always takes the likeliest character; ``top_k`` draws among so many. Unknown
    characters of the prompt are read as spaces; after an empty one the model begins a new line.
    The global random generators are not touched: one ``seed`` gives one text.
    Raises ArgumentError for numbers out of range.
    """
    _check(num_chars, temperature, top_k)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    ids = vocabulary.encode(prompt or "\n", replace_unknown=True).tolist()
    num_given = len(ids)
    with evaluation_mode(model):
        for _ in range(num_chars):
            window = torch.tensor([ids[-model.config.block_size :]], device=device)
            scores = model(window).logits[0, -1].float().cpu()
            ids.append(_draw(scores, temperature, top_k, generator))
    return prompt + vocabulary.decode(ids[num_given:])


def _draw(scores: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    """One id by its score, (vocab_size,). Drawn on the CPU: the same on every device."""
    if temperature == 0:
        return int(scores.argmax())
    if top_k is not None and top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(top_k).values[-1], -torch.inf)
    probabilities = torch.softmax(scores / temperature, dim=0)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def _check(num_chars: int, temperature: float, top_k: int | None) -> None:
    if num_chars < 0:
        raise ArgumentError(f"num_chars is {num_chars}; it must be at least 0.")
    if not 0 <= temperature < float("inf"):
        raise ArgumentError(f"temperature is {temperature}; it must be a number from 0 up.")
    if top_k is not None and top_k < 1:
        raise ArgumentError(f"top_k is {top_k}; it must be at least 1, or None for all.")
