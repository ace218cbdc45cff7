"""What differs between two outcomes of a case, a line for each thing."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tests.differential.case import Outcome
from tests.differential.differences import PREPARATION_TIME, PRINTER, Difference
from tests.differential.recording import Call

TIMED = re.compile(r"_(runtime|per_second|model_preparation_time)$")
"""Keys of what is a time, and so never the same twice."""
EVERYWHERE = (PRINTER, PREPARATION_TIME)
"""Differences that any case may run into."""
MOST_LINES = 40


def differences(
    reference: Outcome, stepbus: Outcome, except_for: Sequence[Difference] = ()
) -> list[str]:
    """Everything in which the second differs from the first, but for what is so on purpose."""
    found = list(_collapsed(_differences(reference, stepbus)))
    masks = [mask for difference in (*EVERYWHERE, *except_for) for mask in difference.masks]
    return [line for line in found if not any(re.search(mask, line) for mask in masks)]


def report(name: str, found: list[str]) -> str:
    """The lines for a person to read."""
    more = len(found) - MOST_LINES
    tail = [f"... and {more} more"] if more > 0 else []
    return "\n".join([f"{name}: reference != stepbus", *found[:MOST_LINES], *tail])


def _collapsed(lines: Iterator[str]) -> Iterator[str]:
    """What is the same in several calls once, with their number."""
    first: dict[str, str] = {}
    count: dict[str, int] = {}
    for line in lines:
        what = re.sub(r"^call \d+ \w+ step \d+", "", line)
        first.setdefault(what, line)
        count[what] = count.get(what, 0) + 1
    for what, line in first.items():
        yield line if count[what] == 1 else f"{line} (and {count[what] - 1} more like it)"


def _differences(reference: Outcome, stepbus: Outcome) -> Iterator[str]:
    yield from differ("error", reference.error, stepbus.error)
    yield from _calls(reference.calls, stepbus.calls)
    for name in ("results", "history", "state", "end", "folders", "json"):
        yield from differ(name, getattr(reference, name), getattr(stepbus, name))
    for folder in reference.files:
        missing = set(reference.files[folder]) - set(stepbus.files.get(folder, ()))
        if missing:
            yield f"files.{folder}: not in stepbus: {', '.join(sorted(missing))}"
    for name in ("weights", "saved_weights", "optimizer"):
        yield from differ(name, getattr(reference, name), getattr(stepbus, name))
    for warning in dict.fromkeys(stepbus.warnings):
        if warning not in reference.warnings:
            yield f"warnings: of stepbus alone: {warning}"


def _calls(reference: list[Call], stepbus: list[Call]) -> Iterator[str]:
    """The order of the calls, then what each of them saw."""
    lines = [call.line for call in reference], [call.line for call in stepbus]
    if lines[0] != lines[1]:
        for line in difflib.unified_diff(*lines, "reference", "stepbus", n=1, lineterm=""):
            yield f"calls: {line}"
    keys = [(c.hook, c.step) for c in reference], [(c.hook, c.step) for c in stepbus]
    for block in difflib.SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks():
        for offset in range(block.size):
            index = block.a + offset
            one, other = reference[index], stepbus[block.b + offset]
            path = f"call {index} {one.hook} step {one.step}"
            values = dataclasses.asdict(one), dataclasses.asdict(other)
            for name in ("hook", "step", "epoch"):
                for value in values:
                    del value[name]
            yield from differ(path, *values)


def differ(path: str, one: Any, other: Any) -> Iterator[str]:
    """Where two nested values differ; floats must be equal to the last bit, NaN equals NaN."""
    one, other = _plain(one), _plain(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        yield from _differ_in_mappings(path, one, other)
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            yield f"{path}: {len(one)} != {len(other)} items: {_short(one)} != {_short(other)}"
            return
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            yield from differ(f"{path}[{index}]", left, right)
    elif isinstance(one, torch.Tensor | np.ndarray) and type(one) is type(other):
        yield from _differ_in_arrays(path, one, other)
    elif type(one) is not type(other):
        yield f"{path}: {_short(one)} != {_short(other)} ({_type(one)} != {_type(other)})"
    elif one != other and not (one != one and other != other):
        yield f"{path}: {_short(one)} != {_short(other)}"


def _differ_in_mappings(
    path: str, one: Mapping[Any, Any], other: Mapping[Any, Any]
) -> Iterator[str]:
    for key in one.keys() - other.keys():
        yield f"{path}.{key}: {_short(one[key])} is missing in stepbus"
    for key in other.keys() - one.keys():
        yield f"{path}.{key}: {_short(other[key])} is in stepbus alone"
    for key in (key for key in one if key in other):
        if key == "epoch" and one[key] == other[key]:
            continue  # The reference begins with an int and goes on with floats.
        if TIMED.search(str(key)):
            yield from _differ_in_times(f"{path}.{key}", one[key], other[key])
        else:
            yield from differ(f"{path}.{key}", one[key], other[key])


def _differ_in_times(path: str, one: Any, other: Any) -> Iterator[str]:
    """Both must be there and rounded alike."""
    digits = 3 if path.endswith("_per_second") else 4
    if isinstance(one, float) and not (
        isinstance(other, float) and other >= 0 and round(other, digits) == other
    ):
        yield f"{path}: {other!r} is no time of {digits} decimals, as {one!r} is"


def _differ_in_arrays(path: str, one: Any, other: Any) -> Iterator[str]:
    same = (one.shape, one.dtype) == (other.shape, other.dtype)
    if not same:
        yield f"{path}: {one.dtype} {tuple(one.shape)} != {other.dtype} {tuple(other.shape)}"
    elif isinstance(one, torch.Tensor):
        if not torch.equal(torch.nan_to_num(one), torch.nan_to_num(other)):
            yield f"{path}: tensors differ by up to {(one - other).abs().max().item():.3g}"
    elif not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
        yield f"{path}: arrays differ: {_short(one)} != {_short(other)}"


def _plain(value: Any) -> Any:
    """A value in the one form in which it is compared."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, tuple | Sequence) and not isinstance(value, str | bytes):
        return list(value)
    return str(value) if isinstance(value, str) else value


def _type(value: Any) -> str:
    return type(value).__name__


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
