"""What an exact resume needs of a model: not the frozen weights under a PEFT model's adapters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...schemas.errors import CheckpointError
from .peft_files import adapter_tensors, peft_configs
from .tensor_identity import identity
from .weights import another_model, differences, unwrap

_EXTRA = "_extra_state"
_PROMPTS = "prompt_encoder."


def model_state(model: nn.Module) -> dict[str, Any]:
    """The state_dict that an exact resume needs; its tensors are the live ones, not copies.

    Of a PEFT model it holds what is trained, the adapters and all buffers. The names are the
    same with and without torch.compile.
    """
    inner = unwrap(model)
    state = inner.state_dict()
    if not peft_configs(inner):
        return state
    kept = _kept(inner)
    reduced = OrderedDict((name, value) for name, value in state.items() if name in kept)
    # Modules look here for the version their own part of a state was written by.
    reduced._metadata = state._metadata  # type: ignore[attr-defined]  # torch keeps it there
    return reduced


def load_model_state(
    model: nn.Module, state: Mapping[str, Any], source: object = "The state"
) -> None:
    """Puts back what `model_state` gave, in place and on the model's devices.

    Args:
        source: where the state comes from, for the message.

    Raises:
        CheckpointError: it is of another model, whose differences are named; this one is unchanged.
    """
    inner = unwrap(model)
    whole = inner.state_dict()
    needed = _kept(inner) if peft_configs(inner) else whole.keys()
    # What is trained may differ from the run that saved it: any weight of the model will do.
    expected = {name: value for name, value in whole.items() if name in needed or name in state}
    faults = differences(_comparable(state), _comparable(expected))
    if odd := {name for name in state.keys() ^ expected.keys() if name.endswith(_EXTRA)}:
        faults.append(f"only here or only there: {', '.join(sorted(odd))}")
    if faults:
        raise another_model(source, faults)
    try:
        inner.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{source} does not go back into the model: {error}") from error


def _comparable(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors whose shapes follow from the model; extra states are whatever a module says."""
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, torch.Tensor) and not name.endswith(_EXTRA)
    }


def _kept(model: nn.Module) -> set[str]:
    """The names in a PEFT model's state of all that may change while it is trained, or had to."""
    live = model.state_dict(keep_vars=True)
    of_adapters: set[object] = set()
    for name in peft_configs(model):
        of_adapters.update(map(identity, adapter_tensors(model, name, live).values()))
    of_adapters.discard(None)
    frozen = {
        name
        for name, value in model.named_parameters(remove_duplicate=False)
        if not value.requires_grad
        and identity(value) not in of_adapters
        and not name.startswith(_PROMPTS)
    }
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    trained = {name for name, _ in model.named_parameters(remove_duplicate=False)} - frozen
    extra = {name for name in live if name.endswith(_EXTRA)}
    return (trained | buffers | extra) & live.keys()
