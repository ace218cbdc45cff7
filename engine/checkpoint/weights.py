"""A model's weights as model.safetensors; a weight tied to another is stored once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ...schemas.errors import CheckpointError
from .tensor_identity import identity

_NAMED = 3
_WRAPPED = "_orig_mod."


def write_weights(
    path: Path, model: nn.Module, state_dict: Mapping[str, object] | None = None
) -> None:
    """Writes the weights of `model`; the file's metadata maps each tied name to the stored one.

    Args:
        state_dict: what is written in place of the model's own state_dict().

    Raises:
        CheckpointError: the model keeps something in its state_dict that is not a plain tensor.
        OSError, SafetensorError: the file cannot be written.
    """
    stored: dict[str, torch.Tensor] = {}
    names: dict[object, str] = {}
    metadata = {"format": "pt"}
    for name, tensor in tensors_of(model, state_dict).items():
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
    put_weights(path.parent, read_weights(path), model)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file on the CPU, under all names that `write_weights` tied.

    Raises:
        CheckpointError: the file is unreadable.
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
    return tensors


def put_weights(
    source: object,
    tensors: dict[str, torch.Tensor],
    model: nn.Module,
    may_lack: Collection[str] = (),
) -> None:
    """Puts named tensors into `model`, in place and on its devices.

    Args:
        source: where they come from, for the message.
        may_lack: names in the model that keep their values where `tensors` has none of them.

    Raises:
        CheckpointError: they are of another model; then `model` is unchanged.
    """
    expected = tensors_of(model)
    _fill_tied(tensors, expected)
    for name in may_lack:
        if name not in tensors:
            expected.pop(name, None)
    if faults := differences(tensors, expected):
        raise another_model(source, faults)
    wanted = {name: tensors[name] for name in expected}
    unwrap(model).load_state_dict(wanted, strict=not may_lack)


def differences(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> list[str]:
    """How a checkpoint's tensors differ from a model's in names, shapes and ties; empty: not."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    both = [name for name in expected if name in found]
    shapes = [
        f"{name} {tuple(found[name].shape)} there, {tuple(expected[name].shape)} here"
        for name in both
        if found[name].shape != expected[name].shape
    ]
    return [
        *_named("missing in the checkpoint", missing),
        *_named("unknown to this model", unexpected),
        *_named("of another shape", shapes),
        *_named("tied here but different there", _torn_apart(found, expected)),
    ]


def another_model(source: object, faults: list[str]) -> CheckpointError:
    """The error for a checkpoint that does not fit the model, with what `differences` found."""
    return CheckpointError(
        f"{source} is a checkpoint of another model: {'; '.join(faults)}. "
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


def tensors_of(
    model: nn.Module, state_dict: Mapping[str, object] | None = None
) -> dict[str, torch.Tensor]:
    """A model's state_dict, or the one given in its place, where it consists of plain tensors.

    Raises:
        CheckpointError: it holds something that safetensors cannot hold; names it.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, value in named_plainly(model, state_dict).items():
        if not isinstance(value, torch.Tensor) or not _is_plain(value):
            raise CheckpointError(
                f"The model's state_dict()[{name!r}] is {_kind(value)}: model.safetensors holds "
                "plain dense tensors only. Attach that part to the run as a state of its own."
            )
        tensors[name] = value
    return tensors


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a {value.layout} {value.dtype} tensor on {value.device}"
    return f"a {type(value).__name__}"


def named_plainly(
    model: nn.Module, state_dict: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The model's state_dict, or the one given in its place, without torch.compile's prefix."""
    inner = unwrap(model)
    if state_dict is None:
        return dict(inner.state_dict())
    if inner is model:
        return dict(state_dict)
    return {name.removeprefix(_WRAPPED): value for name, value in state_dict.items()}


def unwrap(model: nn.Module) -> nn.Module:
    """The module behind torch.compile, so that weights have the same names with and without."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model
