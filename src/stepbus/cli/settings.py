"""Where the arguments of a job come from: flags over a YAML file over saved ones over defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from ..schemas.errors import ArgumentError, nearest
from ..schemas.text_job_arguments import TextJobArguments
from .flags import ALL_FIELDS, GROUPS, NOT_FLAGS, description_of

COMMENT_COLUMN = 42


def build(values: dict[str, Any]) -> TextJobArguments:
    """The arguments of a job, checked.

    Raises:
        ArgumentError: a value out of bounds, or two that contradict each other.
    """
    try:
        return TextJobArguments(**values)
    except ArgumentError as error:
        raise ArgumentError(str(error).replace(f"{TextJobArguments.__name__}.", "")) from None


def layered(layers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One set of values out of several, the later winning.

    Epochs that are asked for win over a number of steps from a layer below.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        if "num_train_epochs" in layer and "max_steps" not in layer:
            merged["max_steps"] = -1
        merged |= layer
    return merged


def read_config(path: str) -> dict[str, Any]:
    """The settings in a YAML file; names may be written with `-` or `_`.

    Raises:
        ArgumentError: the file is missing or unreadable, no YAML, or has an unknown name in it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"--config {path} cannot be read: {reason}.") from error
    try:
        found = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ArgumentError(f"--config {path} is not YAML: {error}.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ArgumentError(
            f"--config {path} holds no settings: write lines such as 'max_steps: 100'."
        )
    settings = {str(name).replace("-", "_"): value for name, value in found.items()}
    for name in settings:
        if name not in ALL_FIELDS:
            raise ArgumentError(f"--config {path} has an unknown setting {name!r}: {_hint(name)}")
    return settings


def as_config(args: TextJobArguments, *, output_dir_chosen: bool) -> str:
    """The arguments as the text of a YAML file that `--config` reads back."""
    values = args.to_dict()
    titled = {"text": sorted(NOT_FLAGS)}
    titled |= {title: names.split() for title, names in GROUPS.items()}
    lines: list[str] = []
    for title, names in titled.items():
        lines += ["", f"# {title}"]
        for name in names:
            line = f"{name}: {_as_yaml(values[name])}"
            if name == "output_dir" and not output_dir_chosen:
                line = f"# {name}: left out, so that each run gets a folder of its own"
                lines.append(line)
                continue
            comment = " ".join(description_of(name).split())
            lines.append(f"{line:{COMMENT_COLUMN}} # {comment}".rstrip())
    return "\n".join(lines[1:])


def _hint(name: str) -> str:
    hint = nearest(name, ALL_FIELDS)
    return hint if hint.startswith("did") else "see stepbus train --print-config."


def _as_yaml(value: Any) -> str:
    # JSON is YAML, and says the same to readers of either version of it.
    return json.dumps(value.value if isinstance(value, Enum) else value, ensure_ascii=False)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's view of scalars: `no` is a word, 3e-3 a number. A name given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, each of its names once."""
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


_KEPT = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _KEPT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|[-+]?\.inf$|\.nan$"
    ),
    list("-+.0123456789"),
)
