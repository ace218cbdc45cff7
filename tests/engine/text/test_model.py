from __future__ import annotations

import math

import pytest
import torch

from stepbus.engine.text import CharGPT, CharGPTConfig
from stepbus.schemas.errors import ArgumentError


def tiny(**changes: object) -> CharGPTConfig:
    shape = {"vocab_size": 11, "block_size": 8, "num_layers": 2, "num_heads": 2, "width": 16}
    return CharGPTConfig(**{**shape, **changes})  # type: ignore[arg-type]


def test_loss_at_the_start_is_that_of_a_guess() -> None:
    torch.manual_seed(0)
    ids = torch.randint(11, (64, 9))
    output = CharGPT(tiny())(ids[:, :-1], ids[:, 1:])
    assert output.logits.shape == (64, 8, 11)
    assert output.loss.item() == pytest.approx(math.log(11), abs=0.05)


def test_a_character_never_sees_those_after_it() -> None:
    torch.manual_seed(0)
    model = CharGPT(tiny()).eval()
    ids = torch.randint(11, (1, 8))
    changed = ids.clone()
    changed[0, 5:] = (changed[0, 5:] + 1) % 11
    before, after = model(ids).logits, model(changed).logits
    torch.testing.assert_close(before[0, :5], after[0, :5])
    assert not torch.allclose(before[0, 5:], after[0, 5:])


def test_without_labels_there_is_no_loss() -> None:
    assert CharGPT(tiny())(torch.zeros(1, 3, dtype=torch.int64)).loss is None


@pytest.mark.slow
def test_one_batch_is_learned_by_heart() -> None:
    torch.manual_seed(0)
    model = CharGPT(tiny())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.randint(11, (4, 9))
    for _ in range(150):
        loss = model(ids[:, :-1], ids[:, 1:]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.3


def test_tied_embeddings_are_one_parameter() -> None:
    tied, untied = CharGPT(tiny()), CharGPT(tiny(tie_embeddings=False))
    assert tied.head.weight is tied.token_embedding.weight
    assert untied.num_parameters - tied.num_parameters == 11 * 16


def test_dropout_works_in_training_only() -> None:
    torch.manual_seed(0)
    model = CharGPT(tiny(dropout=0.5))
    ids = torch.zeros(1, 8, dtype=torch.int64)
    assert not torch.equal(model(ids).logits, model(ids).logits)
    model.eval()
    assert torch.equal(model(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"num_heads": 3}, "width 16 cannot be shared among 3 heads"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": math.nan}, "dropout is nan"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        tiny(**changes)


def test_a_sequence_longer_than_a_block_is_refused() -> None:
    with pytest.raises(ArgumentError, match="has 9 characters and the model reads 8"):
        CharGPT(tiny())(torch.zeros(1, 9, dtype=torch.int64))
