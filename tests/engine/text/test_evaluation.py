from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from stepbus.engine.text import BlockDataset, CharGPT, CharGPTConfig, evaluate_loss
from stepbus.schemas.errors import DataError


@pytest.fixture
def model() -> CharGPT:
    torch.manual_seed(0)
    return CharGPT(CharGPTConfig(11, 8, 1, 2, 16, dropout=0.5))


@pytest.fixture
def dataset() -> BlockDataset:
    return BlockDataset(torch.randint(11, (89,), generator=torch.Generator().manual_seed(1)), 8)


def test_each_character_counts_the_same_whatever_the_batches(
    model: CharGPT, dataset: BlockDataset
) -> None:
    whole = evaluate_loss(model, DataLoader(dataset, batch_size=11))
    uneven = evaluate_loss(model, DataLoader(dataset, batch_size=4))
    assert set(whole) == {"loss"}
    assert uneven["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    model.eval()
    batch = next(iter(DataLoader(dataset, batch_size=11)))
    assert whole["loss"] == pytest.approx(model(**batch).loss.item(), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_generator_are_as_before_even_when_abandoned(
    model: CharGPT, dataset: BlockDataset, training: bool
) -> None:
    def abandoned() -> Iterator[dict[str, Tensor]]:
        yield next(iter(loader))
        raise KeyboardInterrupt

    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(dataset, batch_size=4, generator=generator)
    model.train(training)
    before = torch.get_rng_state()
    evaluate_loss(model, loader)
    assert model.training is training
    with pytest.raises(KeyboardInterrupt):
        evaluate_loss(model, abandoned())
    assert all(module.training is training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_nothing_to_score_is_a_data_error(model: CharGPT) -> None:
    with pytest.raises(DataError, match="no held-out character"):
        evaluate_loss(model, [])
