"""The reference's arguments that must stay at their default: anything else is refused by name.

They are arguments all the same: parsers of command lines know their flags, and a script that
reads `args.deepspeed` finds the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

from pydantic import ValidationError, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from .argument_names import REFUSED


def _default_only(value: Any, as_kind: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    name = str(info.field_name)
    default = RefusedArguments.__dataclass_fields__[name].default
    if _says_nothing(name, value, default):
        return default
    try:
        plain = as_kind(value.value if isinstance(value, Enum) else value)
    except ValidationError:
        plain = None
    if plain is not None and plain == default:
        return default
    raise PydanticCustomError("refused", "{instead}", {"instead": REFUSED[name]})


def _says_nothing(name: str, value: Any, default: Any) -> bool:
    if default not in (None, ""):
        return False
    if value is False:
        return name == "fsdp"
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


DEFAULT_ONLY = WrapValidator(_default_only)

Text = Annotated[str | None, DEFAULT_ONLY]
Flag = Annotated[bool, DEFAULT_ONLY]
Switch = Annotated[bool | None, DEFAULT_ONLY]
Config = Annotated[dict[str, Any] | str | None, DEFAULT_ONLY]


@dataclass(kw_only=True)
class RefusedArguments:
    """The arguments in `REFUSED`, each of which takes its default alone."""

    deepspeed: Config = None
    fsdp: Text = None
    fsdp_config: Config = None
    parallelism_config: Text = None
    accelerator_config: Config = None

    ddp_find_unused_parameters: Switch = None
    ddp_bucket_cap_mb: Annotated[int | None, DEFAULT_ONLY] = None
    ddp_broadcast_buffers: Switch = None
    ddp_static_graph: Switch = None
    ddp_backend: Text = None
    save_on_each_node: Flag = False
    eval_use_gather_object: Flag = False

    use_liger_kernel: Flag = False
    liger_kernel_config: Annotated[dict[str, bool] | None, DEFAULT_ONLY] = None
    neftune_noise_alpha: Annotated[float | None, DEFAULT_ONLY] = None
    # The parser of transformers reads the order of a union.
    optim_target_modules: Annotated[None | str | list[str], DEFAULT_ONLY] = None  # noqa: RUF036
    debug: Annotated[str | list[str], DEFAULT_ONLY] = ""
    skip_memory_metrics: Flag = True
