"""The model as the Trainer takes it: where it goes, what it is told, what its labels are."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any

import torch
from torch import nn

from ...bus.diagnostics import get_logger
from ...schemas import TrainingArguments
from ...schemas.errors import ArgumentError
from .label_smoothing import LabelSmoother

log = get_logger()


def choose_model(model: Any, model_init: Any) -> nn.Module:
    """The model that was given, or a new one of `model_init`.

    Raises:
        ArgumentError: neither, both, or what is no module.
    """
    if model is not None and model_init is not None:
        raise ArgumentError("Trainer got a model and a model_init: give one of them.")
    if model is None:
        if model_init is None:
            raise ArgumentError("Trainer needs a model, or a model_init that makes one.")
        return call_model_init(model_init)
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"model is {model!r}: give a torch.nn.Module, such as a model of transformers."
        )
    return model


def call_model_init(model_init: Any) -> nn.Module:
    """A new model.

    Raises:
        ArgumentError: `model_init` is not callable so, or gave no module.
    """
    if not callable(model_init):
        raise ArgumentError(f"model_init is {model_init!r}: give a function that makes a model.")
    takes_trial = len(inspect.signature(model_init).parameters) == 1
    model = model_init(None) if takes_trial else model_init()
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model_init gave {model!r}: it must return a torch.nn.Module.")
    return model


def place(model: nn.Module, args: TrainingArguments) -> nn.Module:
    """The model on the device, unless it is quantized, split, or is to stay where it is."""
    wanted = args.place_model_on_device
    if wanted is None:
        wanted = not (args.fp16_full_eval or args.bf16_full_eval)
    fixed = getattr(model, "quantization_method", None) == "bitsandbytes" or _is_split(model)
    return model.to(args.device) if wanted and not fixed else model


def _is_split(model: nn.Module) -> bool:
    devices = getattr(model, "hf_device_map", None)
    if devices is None:
        return False
    used = {device for device in devices.values() if device not in ("cpu", "disk")}
    if len(used) > 1:
        raise ArgumentError(
            f"The model is split over {sorted(map(str, used))}, and stepbus trains on one device: "
            "load it without device_map."
        )
    return bool(used)


def enable_checkpointing(model: nn.Module, args: TrainingArguments) -> None:
    """Has the model recompute activations, through its own method.

    Raises:
        ArgumentError: it has none.
    """
    if not args.activation_checkpointing:
        return
    # A dict by now: text is read when the arguments are made.
    options: dict[str, Any] = dict(args.activation_checkpointing_kwargs or {})  # type: ignore[arg-type]
    layers = options.pop("every_n_layers", 1)
    offload = options.pop("offload", False)
    for prefix in ("activation", "gradient"):
        enable = getattr(model, f"{prefix}_checkpointing_enable", None)
        if not callable(enable):
            continue
        fields: dict[str, Any] = {f"{prefix}_checkpointing_kwargs": options or None}
        taken = inspect.signature(enable).parameters
        if "every_n_layers" in taken:
            fields |= {"every_n_layers": layers, "offload": offload}
        enable(**fields)
        return
    raise ArgumentError(
        f"activation_checkpointing=True, and {type(model).__name__} has no "
        "activation_checkpointing_enable(): leave it out, or call torch.utils.checkpoint in the "
        "model's forward."
    )


def align_special_tokens(model: nn.Module, processing_class: Any) -> None:
    """Tells the configuration of a pretrained model its tokenizer's special tokens."""
    transformers = sys.modules.get("transformers")
    if transformers is None or processing_class is None or not hasattr(model, "config"):
        return
    kinds = (transformers.PreTrainedTokenizerBase, transformers.ProcessorMixin)
    if isinstance(processing_class, kinds):
        align: Any = importlib.import_module("transformers.trainer_utils").align_special_tokens
        align(model, processing_class)


def make_label_smoother(model: nn.Module, args: TrainingArguments) -> LabelSmoother | None:
    """The smoother that `label_smoothing_factor` asks for."""
    if not args.label_smoothing_factor:
        return None
    problem = getattr(getattr(model, "config", None), "problem_type", None)
    if problem == "multi_label_classification":
        log.warning(
            "label_smoothing_factor has no effect on multi-label classification: labels are not "
            "smoothed."
        )
        return None
    return LabelSmoother(epsilon=args.label_smoothing_factor)


def compiled(model: nn.Module, args: TrainingArguments) -> nn.Module:
    """What to call for the forward pass: the model, or its compiled form."""
    if not args.torch_compile:
        return model
    options: dict[str, Any] = {"backend": args.torch_compile_backend}
    if args.torch_compile_mode is not None:
        options["mode"] = args.torch_compile_mode
    return torch.compile(model, **options)  # type: ignore[return-value]
