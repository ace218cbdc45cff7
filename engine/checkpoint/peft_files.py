"""The adapters of a PEFT model: back from their files into the live model.

peft is looked at only once the model at hand turns out to be one of its.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...schemas.errors import CheckpointError
from .weights import another_model, differences, read_weights, unwrap

ADAPTER = "adapter_model.safetensors"
_PREFIX = "base_model.model."


def peft_configs(model: nn.Module) -> Mapping[str, Any]:
    """The configurations of a model's adapters by their names; empty where it has none."""
    configs = getattr(unwrap(model), "peft_config", None)
    return configs if isinstance(configs, Mapping) else {}


def load_adapters(folder: Path, model: nn.Module) -> bool:
    """Puts all adapters in a folder into the live model; False where it holds none.

    Raises:
        CheckpointError: one of them is not the model's, or an adapter that is being trained is
            missing; then the model is unchanged.
    """
    files = _adapter_files(folder, model)
    if not files:
        return False
    known = peft_configs(model)
    strangers = [name for name in files if name not in known]
    missing = [name for name in known if name not in files and _is_trained(model, name)]
    if strangers or missing:
        raise CheckpointError(
            f"{folder} holds the adapters {', '.join(files)}, and the model has "
            f"{', '.join(known)}. Give it those of the run that saved them."
        )
    found = {name: _fitting(folder, model, name, read_weights(files[name])) for name in files}
    for name, tensors in found.items():
        _put(folder, model, name, tensors)
    return True


def adapter_tensors(
    model: nn.Module, name: str, state: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """What peft saves of an adapter: its live tensors, under names without the adapter's."""
    from peft import get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, torch.Tensor] = get_peft_model_state_dict(
            model,
            state_dict=dict(model.state_dict() if state is None else state),
            adapter_name=name,
            save_embedding_layers=False,
        )
    return found


def _adapter_files(folder: Path, model: nn.Module) -> dict[str, Path]:
    """The files by adapter: peft keeps `default` in the folder itself, others in subfolders.

    A model of transformers with adapters inside keeps the one that is active, in the folder itself.
    """
    from peft import PeftModel

    files = {path.parent.name: path for path in sorted(folder.glob(f"*/{ADAPTER}"))}
    top = folder / ADAPTER
    if top.is_file():
        is_default = isinstance(model, PeftModel) and "default" in peft_configs(model)
        files["default" if is_default else _active(model)] = top
    return files


def _active(model: Any) -> str:
    active = model.active_adapters
    names: list[str] = active() if callable(active) else active
    return names[0] if names else next(iter(peft_configs(model)))


def _is_trained(model: nn.Module, name: str) -> bool:
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    state = dict(model.state_dict(keep_vars=True))
    return any(id(tensor) in trained for tensor in adapter_tensors(model, name, state).values())


def _fitting(
    folder: Path, model: nn.Module, name: str, tensors: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The tensors of an adapter's file, once they are known to be that adapter's."""
    expected = adapter_tensors(model, name)
    if not _goes_both_ways(model, name, expected):
        raise CheckpointError(
            f"The adapter {name!r} in {folder} holds prompts that the live model computes with an "
            "encoder, which is not in the file, so they cannot go back while it is trained. Leave "
            "load_best_model_at_end out, or load them with peft.PeftModel.from_pretrained into a "
            "new model."
        )
    # An adapter inside a model of transformers is saved with the prefix that peft gives its own.
    if not any(key.startswith(_PREFIX) for key in expected):
        tensors = {key.removeprefix(_PREFIX): tensor for key, tensor in tensors.items()}
    whole = model.state_dict()
    # Embeddings that were resized or are adapted themselves are saved whole beside the adapter.
    expected |= {key: whole[key] for key in tensors if key not in expected and key in whole}
    if faults := differences(tensors, expected):
        raise another_model(f"The adapter {name!r} in {folder}", faults)
    return tensors


def _goes_both_ways(model: Any, name: str, expected: Mapping[str, torch.Tensor]) -> bool:
    """Whether what is saved of an adapter is what it consists of, not what it computes."""
    if not peft_configs(model)[name].is_prompt_learning:
        return True
    own = model.prompt_encoder[name].embedding.weight
    return torch.equal(own.detach().cpu(), expected["prompt_embeddings"].cpu())


def _put(folder: Path, model: nn.Module, name: str, tensors: dict[str, torch.Tensor]) -> None:
    from peft import set_peft_model_state_dict

    try:
        set_peft_model_state_dict(model, tensors, adapter_name=name)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"The adapter {name!r} in {folder} does not go back into the live model: {error}. Load "
            "it with peft.PeftModel.from_pretrained into a new one."
        ) from error
