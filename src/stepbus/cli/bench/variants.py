"""The loops that `stepbus bench` measures: stepbus alone, and with the subject in each place."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...bus import EventBus
from ...engine.bench.equal_work import Work
from ...engine.bench.loops import StepWatch, training_run
from .subject import Subject, Where

DRAIN_S = 1.0
"""Time for what is left in mailboxes when a loop is left, s; it is no part of what is measured."""


def alone(work: Work, watch: StepWatch, *, logging_steps: int) -> nn.Module:
    """A run that logs to nobody."""
    return training_run(work, watch, logging_steps=logging_steps)


def delivered(
    work: Work, watch: StepWatch, *, logging_steps: int, subject: dict[str, Any], where: Where
) -> nn.Module:
    """A run with the subject in one place."""
    chosen = Subject(**subject)
    arguments = {"drain_timeout_s": DRAIN_S}
    if chosen.kind == "callback" and where == "inline":
        return training_run(
            work,
            watch,
            logging_steps=logging_steps,
            arguments=arguments,
            callbacks=[chosen.make()],
        )

    def subscribe(bus: EventBus) -> None:
        chosen.subscribe(bus, where)

    return training_run(
        work, watch, logging_steps=logging_steps, arguments=arguments, subscribe=subscribe
    )
