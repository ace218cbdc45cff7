"""The arguments written down: as a dict, as JSON, as text, for events; never with a secret."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from .argument_names import REFUSED
from .values import FrozenDict


class WrittenArguments:
    """The arguments in other forms; values of names that end in `_token` are masked in all."""

    def __str__(self) -> str:
        lines = "".join(f"{name}={value!r},\n" for name, value in sorted(self.to_dict().items()))
        return f"{type(self).__name__}(\n{lines})"

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """The arguments as plain values; those named `..._token` as `<..._TOKEN>`."""
        fields = [field.name for field in dataclasses.fields(self) if field.init]  # type: ignore[arg-type]
        # Those that are obeyed come first.
        fields.sort(key=lambda name: name in REFUSED)
        return {
            name: f"<{name.upper()}>" if name.endswith("_token") else _plain(getattr(self, name))
            for name in fields
        }

    def to_json_string(self) -> str:
        """`to_dict` as JSON, 2 spaces a level."""
        return json.dumps(self.to_dict(), indent=2, default=str)

    def to_sanitized_dict(self) -> dict[str, Any]:
        """`to_dict` and the batch sizes, everything but numbers and text as text."""
        values = self.to_dict()
        for name in ("train_batch_size", "eval_batch_size"):
            values[name] = getattr(self, name)
        return {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in values.items()
        }

    def frozen_copy(self) -> FrozenDict[str, Any]:
        """What events carry: `to_dict`, read-only, foreign objects as text."""
        return FrozenDict({name: _frozen(value) for name, value in self.to_dict().items()})


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain_item(key, item) for key, item in value.items()}
    return value


def _plain_item(key: Any, value: Any) -> Any:
    # A `torch.dtype` is written as its name, "float32", which `from_pretrained` reads back.
    if key == "dtype" and value is not None and not isinstance(value, str):
        return str(value).rpartition(".")[2]
    return _plain(value)


def frozen_arguments(values: Mapping[str, Any]) -> FrozenDict[str, Any]:
    """The arguments of another trainer as events carry them: read-only, foreign objects as text,
    and those named `..._token` as `<..._TOKEN>`, all the way down."""
    return FrozenDict({str(name): _masked(str(name), item) for name, item in values.items()})


def _masked(name: str, value: Any) -> Any:
    if name.endswith("_token") and value is not None:
        return f"<{name.upper()}>"
    if isinstance(value, Mapping):
        return frozen_arguments(value)
    return _frozen(_plain(value))


def _frozen(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return FrozenDict({str(key): _frozen(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return str(value)
