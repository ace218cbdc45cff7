"""What a model says of its own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..bus.diagnostics import get_logger
from ..schemas.argument_writing import frozen_arguments
from ..schemas.values import FrozenDict

log = get_logger()


def model_settings(model: nn.Module) -> FrozenDict[str, Any]:
    """The configuration of a model as plain values: that of `model.config`, as models of
    transformers have it, and `peft_config` by adapter; empty for a model without either.

    What cannot be read is left out: it is nothing that a training should fail for.
    """
    found: dict[str, Any] = {}
    try:
        found.update(_plain_config(getattr(model, "config", None)))
        adapters = getattr(model, "peft_config", None)
        if isinstance(adapters, Mapping):
            found["peft_config"] = {str(k): _plain_config(v) for k, v in adapters.items()}
        return frozen_arguments(found)
    except Exception as error:
        log.warning(
            f"the configuration of {type(model).__name__} is not logged: it cannot be read "
            f"({type(error).__name__}: {error})."
        )
        return FrozenDict()


def _plain_config(config: Any) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return dict(config)
    to_dict = getattr(config, "to_dict", None)
    return dict(to_dict()) if callable(to_dict) else {}
