"""What a run says of the configuration of its model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from stepbus.engine.model_settings import model_settings

if TYPE_CHECKING:
    from tests.engine.conftest import Loop


def with_config(config: Any, **more: Any) -> nn.Module:
    model = nn.Linear(1, 1)
    model.config = config
    for name, value in more.items():
        setattr(model, name, value)
    return model


def test_a_configuration_becomes_plain_values_without_its_secrets() -> None:
    config = SimpleNamespace(
        to_dict=lambda: {"sizes": [1, 2], "dtype": torch.float32, "inner": {"hub_token": "s3cret"}}
    )
    adapter = SimpleNamespace(to_dict=lambda: {"r": 8, "target_modules": {"q"}})
    found = model_settings(with_config(config, peft_config={"default": adapter}))
    assert found["sizes"] == (1, 2)
    assert found["inner"] == {"hub_token": "<HUB_TOKEN>"}
    assert found["peft_config"]["default"]["r"] == 8
    assert "s3cret" not in str(found)


def test_a_model_without_one_says_nothing_and_an_unreadable_one_costs_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert model_settings(nn.Linear(1, 1)) == {}

    def breaks() -> Any:
        raise RuntimeError("lazy")

    assert model_settings(with_config(SimpleNamespace(to_dict=breaks))) == {}
    assert "the configuration of Linear is not logged" in caplog.text


def test_the_run_s_first_events_have_it(loop: Loop) -> None:
    config: Any = SimpleNamespace(to_dict=lambda: {"model_type": "tiny"})
    loop.model.config = config
    loop.train(max_steps=1)
    for event in loop.recorder.of("init_end", "train_begin"):
        assert event.model_settings == {"model_type": "tiny"}
        assert event.arguments["max_steps"] == 1
        assert (event.model, event.num_parameters) == ("Sequential", 81)
