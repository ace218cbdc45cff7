"""What becomes of the names that version 4 of the reference had for training arguments."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .argument_kinds import DEFAULT_FOLDER
from .argument_names import FORMER, FORMER_REFUSED, FORMER_VALUES, KEPT

Becomes = Callable[[Any], Any]
"""The new value of an old one; None where the old one says nothing."""


def _same(value: Any) -> Any:
    return value


def _if_set(new: Any) -> Becomes:
    return lambda value: new if value else None


def _ratio(value: Any) -> float | None:
    ratio = float(value)
    if not 0 <= ratio < 1:
        raise ValueError("it should be at least 0 and below 1.")
    return ratio or None


_RENAMED: Mapping[str, tuple[str, Becomes]] = MappingProxyType(
    {
        "evaluation_strategy": ("eval_strategy", _same),
        "no_cuda": ("use_cpu", _same),
        "warmup_ratio": ("warmup_steps", _ratio),
        "group_by_length": ("train_sampling_strategy", _if_set("group_by_length")),
        "include_inputs_for_metrics": ("include_for_metrics", _if_set(["inputs"])),
        "include_tokens_per_second": ("include_num_input_tokens_seen", _if_set("all")),
        "per_gpu_train_batch_size": ("per_device_train_batch_size", _same),
        "per_gpu_eval_batch_size": ("per_device_eval_batch_size", _same),
        "push_to_hub_model_id": ("hub_model_id", _same),
        "push_to_hub_token": ("hub_token", _same),
        "torchdynamo": ("torch_compile_backend", _same),
    }
)

_ALLOWED: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "save_safetensors": (True, None),
        "half_precision_backend": ("auto", None),
        "fp16_backend": ("auto", None),
    }
)


def modernise(
    cls: type[Any], given: Mapping[str, Any], known: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """Arguments under today's names, and a sentence for each former one that cannot be taken.

    Warns once for each former name. A call that names every field is a copy
    (`dataclasses.replace`, a dict read back), nobody's choice of an old name: the two old names
    that are still arguments are then taken silently.

    Args:
        cls: the dataclass that is made.
        given: keyword arguments of its constructor.
        known: names that it takes; a former name among them is its own affair.
    """
    new: dict[str, Any] = {}
    old: dict[str, Any] = {}
    problems: list[str] = []
    owner = cls.__name__
    is_copy = {field.name for field in dataclasses.fields(cls) if field.init} <= given.keys()
    for name, value in given.items():
        if name in KEPT and not is_copy:
            _warn(name)
        if name in known or name in KEPT or name not in FORMER.keys() | FORMER_REFUSED.keys():
            new[name] = value
        elif name in FORMER_REFUSED:
            problems.append(f"{owner}.{name} is {_shown(name, value)}: {FORMER_REFUSED[name]}.")
        else:
            _warn(name)
            old[name] = value
    for name, value in old.items():
        problem = _take(name, value, new)
        if problem:
            problems.append(f"{owner}.{name} is {_shown(name, value)}: {problem}")
    owner_on_hub = old.get("push_to_hub_organization")
    if owner_on_hub:
        repository = new.get("hub_model_id") or Path(new.get("output_dir") or DEFAULT_FOLDER).name
        if "/" not in repository:
            new["hub_model_id"] = f"{owner_on_hub}/{repository}"
    return new, problems


def _take(name: str, value: Any, new: dict[str, Any]) -> str | None:
    """Puts a former argument under its new name; what is wrong with it otherwise."""
    if name in _ALLOWED and value not in _ALLOWED[name]:
        return f"{FORMER_VALUES[name]}."
    if name not in _RENAMED or value is None:
        return None
    to, becomes = _RENAMED[name]
    try:
        translated = becomes(value)
    except (TypeError, ValueError) as error:
        return str(error)
    if to in new and _contradicts(name, translated, new[to]):
        return f"but {to} is {_shown(to, new[to])}: leave {name} out."
    if translated is not None and not new.get(to):
        new[to] = translated
    return None


def _contradicts(name: str, translated: Any, given: Any) -> bool:
    plain = given.value if isinstance(given, Enum) else given
    if translated is None:
        return name == "group_by_length" and plain == name
    if isinstance(translated, list) and isinstance(plain, list | tuple):
        return not set(translated) <= set(plain)
    if name == "warmup_ratio" and plain == 0:
        return False  # no steps is what version 4 had beside a ratio
    return bool(translated != plain)


def _shown(name: str, value: Any) -> str:
    if name.endswith("_token"):
        return f"<{name.upper()}>"
    return repr(value.value if isinstance(value, Enum) else value)


def _warn(name: str) -> None:
    # Four frames up: this function, `modernise`, the metaclass, and then the script's own line.
    warnings.warn(
        f"{name} is an argument of transformers 4. It has become {FORMER[name]}.",
        FutureWarning,
        stacklevel=4,
    )
