"""A model's files the way its own library saves them, and the way back into the live model.

A folder holds model.safetensors, or shards of it with an index, or the adapters of a PEFT model.
Models of transformers and peft are saved by themselves, so that `from_pretrained` reads the folder.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...schemas.errors import CheckpointError
from .layout import WEIGHTS
from .peft_files import ADAPTER, load_adapters, peft_configs
from .weights import (
    named_plainly,
    put_weights,
    read_weights,
    tensors_of,
    unwrap,
    write_weights,
)

INDEX = "model.safetensors.index.json"
_PICKLES = """
    pytorch_model.bin pytorch_model.bin.index.json adapter_model.bin
""".split()
_SAVED_BY_THEMSELVES = {
    "transformers.modeling_utils": "PreTrainedModel",
    "peft.peft_model": "PeftModel",
}


def save_model_files(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    processing_class: Any = None,
    data_collator: Any = None,
    state_dict: dict[str, Any] | None = None,
) -> None:
    """Writes a model, and what prepares its inputs, so that their own library reads them back.

    Args:
        model: one of transformers or peft is saved by its save_pretrained, any other as
            model.safetensors with tied weights stored once; torch.compile is looked through.
        folder: made if need be.
        processing_class: a tokenizer, image processor or the like; saved by its save_pretrained.
        data_collator: its tokenizer is saved where there is no `processing_class`.
        state_dict: what is written in place of the model's own state_dict().

    Raises:
        CheckpointError: the model or `processing_class` cannot be saved like this.
        OSError, SafetensorError: the folder cannot be written.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if saves_itself(model):
        own: Any = unwrap(model)
        given = None if state_dict is None else named_plainly(model, state_dict)
        own.save_pretrained(str(path), state_dict=given)
    else:
        write_weights(path / WEIGHTS, model, state_dict)
    if processing_class is None:
        processing_class = getattr(data_collator, "tokenizer", None)
    if processing_class is not None:
        if not callable(getattr(processing_class, "save_pretrained", None)):
            raise CheckpointError(
                f"processing_class is a {type(processing_class).__name__}, which has no "
                "save_pretrained(folder): give it one, or override save_model."
            )
        processing_class.save_pretrained(str(path))


def saves_itself(model: nn.Module) -> bool:
    """Whether it is a model of transformers or peft, which brings its own save_pretrained."""
    inner = unwrap(model)
    kinds = (getattr(sys.modules.get(m), k, None) for m, k in _SAVED_BY_THEMSELVES.items())
    return any(isinstance(kind, type) and isinstance(inner, kind) for kind in kinds)


def holds_weights(names: Collection[str]) -> bool:
    """Whether a folder with these files, as relative POSIX paths, is one to load a model from."""
    return any(
        name in (WEIGHTS, INDEX) or (name.split("/")[-1] == ADAPTER and name.count("/") < 2)
        for name in names
    )


def load_model_files(folder: str | os.PathLike[str], model: nn.Module) -> None:
    """Puts the weights in a folder back into the live `model`, in place and on its devices.

    The folder may be a checkpoint of stepbus or of Hugging Face's Trainer, or what
    `save_pretrained` wrote: model.safetensors, shards of it, or a PEFT model's adapters.

    Raises:
        CheckpointError: the weights are missing, unreadable, pickled, or of another model, in
            which case the message names what does not fit and `model` is unchanged.
    """
    path = Path(folder)
    if peft_configs(model) and load_adapters(path, unwrap(model)):
        return
    tensors = _read_folder(path)
    try:
        put_weights(path, tensors, model, _may_lack(model))
    except CheckpointError as error:
        renamed = _as_from_pretrained_reads(path, model)
        if renamed is None:
            raise
        try:
            put_weights(path, renamed, model)
        except CheckpointError:
            raise error from None


def _read_folder(folder: Path) -> dict[str, torch.Tensor]:
    if (folder / WEIGHTS).is_file():
        return read_weights(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    for name in _PICKLES:
        if (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name} is a pickle, which can run code when it is read, so stepbus "
                "never reads one. Save these weights as safetensors: load them with the model's "
                "from_pretrained and call its save_pretrained."
            )
    if not folder.is_dir():
        raise CheckpointError(f"There is no folder {str(folder)!r} to load a model from.")
    if (folder / ADAPTER).is_file() or any(folder.glob(f"*/{ADAPTER}")):
        raise CheckpointError(
            f"{folder} holds PEFT adapters, and the model has none. Give it some as in the run "
            "that saved them (peft.get_peft_model), or use peft.PeftModel.from_pretrained."
        )
    raise CheckpointError(
        f"{folder} holds no weights: neither {WEIGHTS} nor {INDEX} nor {ADAPTER}."
    )


def _read_shards(folder: Path) -> dict[str, torch.Tensor]:
    index = folder / INDEX
    try:
        shards: dict[str, str] = dict(json.loads(index.read_bytes())["weight_map"])
        names = sorted(set(shards.values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("a shard is outside of the folder")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index} is not an index of shards: {error}.") from error
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        tensors |= read_weights(folder / name)
    lost = [name for name in shards if name not in tensors]
    if lost:
        raise CheckpointError(f"{folder} is damaged: {shards[lost[0]]} has no {lost[0]}.")
    return tensors


def _may_lack(model: nn.Module) -> list[str]:
    """Names that the model itself leaves out when it is saved, and computes anew."""
    names: Any = getattr(unwrap(model), "_keys_to_ignore_on_save", None)
    return [str(name) for name in names or ()]


def _as_from_pretrained_reads(folder: Path, model: nn.Module) -> dict[str, torch.Tensor] | None:
    """The weights under the model's own names, where its library stores them under others.

    Returns:
        None where the model's class does not read the folder without anything missing or left.
    """
    own: Any = unwrap(model)
    if not saves_itself(model) or peft_configs(model):
        return None
    exact = {torch.float32, *(p.dtype for p in own.parameters() if p.dtype == torch.float64)}
    try:
        with torch.random.fork_rng(devices=[]):
            twin, report = type(own).from_pretrained(
                str(folder),
                config=copy.deepcopy(own.config),
                dtype=max(exact, key=lambda dtype: dtype.itemsize),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception:
        return None
    if any(report.values()):
        return None
    return tensors_of(twin)
