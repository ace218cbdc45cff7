from __future__ import annotations

import pytest
import torch

from stepbus.engine.text import CharGPT, CharGPTConfig, Vocabulary, generate
from stepbus.schemas.errors import ArgumentError

VOCABULARY = Vocabulary("\n abcdefgh")


@pytest.fixture
def model() -> CharGPT:
    torch.manual_seed(0)
    return CharGPT(CharGPTConfig(len(VOCABULARY), 8, 1, 2, 16, dropout=0.5))


def test_a_seed_gives_a_text_and_the_global_generator_is_untouched(model: CharGPT) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = generate(model, VOCABULARY, "abc", 40, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert generate(model, VOCABULARY, "abc", 40, seed=3) == first
    assert generate(model, VOCABULARY, "abc", 40, seed=4) != first
    assert first.startswith("abc")
    assert len(first) == 43


def test_the_mode_of_every_module_is_restored(model: CharGPT) -> None:
    model.train()
    model.blocks.eval()
    before = [module.training for module in model.modules()]
    generate(model, VOCABULARY, "abc", 2)
    assert [module.training for module in model.modules()] == before


def test_gradients_still_flow_after_a_sample(model: CharGPT) -> None:
    generate(model, VOCABULARY, "abc", 2)
    ids = VOCABULARY.encode("abcd").long()[None]
    model(ids, ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_empty_unknown_and_long_prompts_are_read(model: CharGPT) -> None:
    assert len(generate(model, VOCABULARY, "", 5)) == 5
    assert generate(model, VOCABULARY, "\u00e9\U0001f600", 5).startswith("\u00e9\U0001f600")
    assert generate(model, VOCABULARY, "abc" * 20, 0) == "abc" * 20
    assert len(generate(model, VOCABULARY, "abc" * 20, 5)) == 65


def test_top_1_and_temperature_0_take_the_likeliest(model: CharGPT) -> None:
    likeliest = generate(model, VOCABULARY, "abc", 20, temperature=0)
    assert generate(model, VOCABULARY, "abc", 20, top_k=1, seed=5) == likeliest
    assert generate(model, VOCABULARY, "abc", 20, top_k=99, seed=5) == generate(
        model, VOCABULARY, "abc", 20, seed=5
    )


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_chars": -1}, "num_chars is -1"),
        ({"num_chars": 1, "temperature": -0.1}, "temperature is -0.1"),
        ({"num_chars": 1, "temperature": float("nan")}, "temperature is nan"),
        ({"num_chars": 1, "top_k": 0}, "top_k is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(
    model: CharGPT, numbers: dict[str, float], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        generate(model, VOCABULARY, "abc", **numbers)  # type: ignore[arg-type]
