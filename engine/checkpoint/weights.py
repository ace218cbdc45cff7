"""A model's weights as model.safetensors; a weight tied to another is stored once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ...schemas.errors import CheckpointError
from .tensor_identity import identity

_NAMED = 3


def write_weights(path: Path, model: nn.Module) -> None:
    """Writes the weights of `model`; the file's metadata maps each tied name to the stored one.

    Raises:
        CheckpointError: the model keeps something in its state_dict that is not a plain tensor.
        OSError, SafetensorError: the file cannot be written.
    """
    stored: dict[str, torch.Tensor] = {}
    names: dict[object, str] = {}
    metadata = {"format": "pt"}
    for name, tensor in _state_of(model).items():
        first = names.setdefault(identity(tensor) or name, name)
        if first == name:
            stored[name] = _compact(tensor)
        else:
            metadata[name] = first
    save_file(stored, path, metadata=metadata)


def load_weights(path: Path, model: nn.Module) -> None:
    """Puts the weights of a file into `model`, in place and on its devices.

    Raises:
        CheckpointError: the file is unreadable, or is of another model; then `model` is unchanged.
    """
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}.") from error
    metadata.pop("format", None)
    for name, first in metadata.items():
        if first in tensors:
            tensors.setdefault(name, tensors[first])
    expected = _state_of(model)
    _check_same_model(path, tensors, expected)
    _unwrap(model).load_state_dict({name: tensors[name] for name in expected})


def _check_same_model(
    path: Path, found: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    _fill_tied(found, expected)
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    both = [name for name in expected if name in found]
    shapes = [
        f"{name} {tuple(found[name].shape)} there, {tuple(expected[name].shape)} here"
        for name in both
        if found[name].shape != expected[name].shape
    ]
    faults = [
        *_named("missing in the checkpoint", missing),
        *_named("unknown to this model", unexpected),
        *_named("of another shape", shapes),
        *_named("tied here but different there", _torn_apart(found, expected)),
    ]
    if faults:
        raise CheckpointError(
            f"{path.parent} is a checkpoint of another model: {'; '.join(faults)}. "
            "Build the model as it was when the checkpoint was written."
        )


def _fill_tied(found: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """A name that is missing in the file takes the value of one it is tied to in the model."""
    known = {identity(tensor): name for name, tensor in expected.items() if name in found}
    known.pop(None, None)
    for name, tensor in expected.items():
        if name not in found and (source := known.get(identity(tensor))) is not None:
            found[name] = found[source]


def _torn_apart(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> list[str]:
    """Names whose values differ in the file although the model has one weight for both."""
    first: dict[object, str] = {}
    torn = []
    for name, tensor in expected.items():
        other = first.setdefault(identity(tensor) or name, name)
        if other == name or name not in found or other not in found:
            continue
        if not _same_bits(found[name], found[other]):
            torn.append(f"{other} and {name}")
    return torn


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one is other or torch.equal(_bytes(one), _bytes(other))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def _named(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [f"{what}: {', '.join(names[:_NAMED])}{more}"]


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy on the CPU that shares no storage with another weight, if need be."""
    compact = tensor.to("cpu").contiguous()
    shares = compact.untyped_storage().nbytes() != compact.nbytes
    return compact.clone() if shares else compact


def _state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    state = _unwrap(model).state_dict()
    for name, value in state.items():
        plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
        if not plain or value.is_meta or value.is_quantized:
            raise CheckpointError(
                f"The model's state_dict()[{name!r}] is {_kind(value)}: model.safetensors holds "
                "plain dense tensors only. Attach that part to the run as a state of its own."
            )
    return dict(state)


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a {value.layout} {value.dtype} tensor on {value.device}"
    return f"a {type(value).__name__}"


def _unwrap(model: nn.Module) -> nn.Module:
    """The module behind torch.compile, so that weights have the same names with and without."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model
