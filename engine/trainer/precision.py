"""bf16 and fp16: autocast around the model's forward, the gradient scaler, half-precision eval."""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...bus.diagnostics import get_logger
from ...schemas import TrainingArguments
from ...schemas.errors import ArgumentError

log = get_logger()


def check_precision(args: TrainingArguments, device: torch.device) -> None:
    """Refuses a precision that the device does not have.

    Raises:
        ArgumentError: fp16 on a device without a gradient scaler, bf16 on a GPU that is too old,
            tf32 without one that has it. On the CPU fp16 has no effect, as in the reference.
    """
    if args.fp16 and device.type == "cpu":
        log.warning(
            "fp16=True has no effect on the CPU, which computes in float32: leave it out, or use "
            "bf16=True."
        )
    elif args.fp16 and device.type != "cuda":
        raise ArgumentError(
            f"fp16=True needs a CUDA device, and this run is on {device}: leave it out, or use "
            "bf16=True."
        )
    on_cuda = device.type == "cuda"
    if (args.bf16 or args.bf16_full_eval) and on_cuda and not torch.cuda.is_bf16_supported():
        raise ArgumentError(
            "bf16=True needs an Ampere or newer GPU, and this one has no bfloat16: use fp16."
        )
    if args.tf32 and device.type != "cuda":
        raise ArgumentError(
            f"tf32=True needs an Ampere or newer GPU, and this run is on {device}: leave it out."
        )


def apply_tf32(args: TrainingArguments, device: torch.device) -> None:
    """Switches TF32 as the arguments say; None leaves it as it is, but on for compiled models."""
    wanted = args.tf32
    if wanted is None and args.torch_compile and not args.fp16:
        wanted = True
    if wanted is not None and device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = wanted
        torch.backends.cudnn.allow_tf32 = wanted


def compute_dtype(args: TrainingArguments) -> torch.dtype | None:
    """What autocast computes in; None without it."""
    if args.fp16:
        return None if args.device.type == "cpu" else torch.float16
    return torch.bfloat16 if args.bf16 else None


@contextlib.contextmanager
def autocast_forward(
    model: nn.Module, device: torch.device, dtype: torch.dtype | None
) -> Iterator[None]:
    """For a with block, runs the model's forward under autocast and gives its outputs in float32.

    As the reference does it: the forward of the model at hand is replaced, so that whoever calls
    the model gets it, and a loss computed outside of the model is computed in float32. Nested
    blocks are one.
    """
    if dtype is None or getattr(model.forward, "_stepbus_autocast", False):
        yield
        return
    own = vars(model).get("forward")
    model.forward = _autocast(model.forward, device.type, dtype)
    try:
        yield
    finally:
        if own is None:
            del model.forward
        else:
            model.forward = own


def _autocast(forward: Callable[..., Any], device: str, dtype: torch.dtype) -> Callable[..., Any]:
    function = getattr(forward, "__func__", forward)

    @functools.wraps(function)
    def under_autocast(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype):
            outputs = function(*args, **kwargs)
        return in_float32(outputs)

    under_autocast._stepbus_autocast = True  # type: ignore[attr-defined]
    if function is forward:
        return under_autocast
    # Bound to the model, so that a deep copy of the model calls the copy's own weights.
    return types.MethodType(under_autocast, forward.__self__)  # type: ignore[attr-defined]


def in_float32(values: Any) -> Any:
    """The values with half-precision tensors in float32, whatever they are nested in."""
    if isinstance(values, Tensor):
        return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    if isinstance(values, Mapping):
        converted = {name: in_float32(value) for name, value in values.items()}
        return converted if type(values) is dict else type(values)(converted)  # type: ignore[call-arg]
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return type(values)(*(in_float32(value) for value in values))
    if isinstance(values, list | tuple):
        return type(values)(in_float32(value) for value in values)
    return values


def make_scaler(args: TrainingArguments, device: torch.device) -> torch.amp.GradScaler | None:
    """The gradient scaler that fp16 needs; None otherwise, and on the CPU."""
    wanted = args.fp16 and device.type != "cpu"
    return torch.amp.GradScaler(device.type) if wanted else None


def cast_for_evaluation(
    model: nn.Module, args: TrainingArguments, device: torch.device
) -> nn.Module:
    """The model on the device, in half precision where a full half-precision eval is asked for.

    For evaluations outside of training, and for good, as in the reference.
    """
    if args.fp16_full_eval:
        return model.to(dtype=torch.float16, device=device)
    if args.bf16_full_eval:
        return model.to(dtype=torch.bfloat16, device=device)
    return model
