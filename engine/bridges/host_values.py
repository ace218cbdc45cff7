"""What a foreign trainer logs, as an event carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...bus import Deferred
from ...bus.call_values import plain_values
from ..metric_buffer import MetricBuffer, Number


def host_values(
    who: str, values: Mapping[str, Any], metrics: MetricBuffer
) -> tuple[dict[str, Any], tuple[Deferred, ...]]:
    """Numbers and text by name, and the handles among them that are still on their way.

    A scalar on a device is copied without waiting. What is neither number nor text is left out and
    named once.

    Args:
        who: whose values they are, for that message.
        values: as they were logged.
        metrics: takes what is on a device.
    """
    tensors: dict[str, Number] = {
        name: value
        for name, value in values.items()
        if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex()
    }
    if not tensors:
        return plain_values(who, values), ()
    numbers, handles = metrics.push(list(tensors.values()))
    found: dict[str, Any] = dict(zip(tensors, numbers, strict=True))
    rest = plain_values(who, {name: v for name, v in values.items() if name not in found})
    return {
        str(name): (found | rest)[name] for name in values if name in found or name in rest
    }, handles
