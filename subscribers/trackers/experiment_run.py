"""What a tracker is told of the run that it opens, and of how the run ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...schemas import InitEnd, RunFailed, TrainBegin, TrainEnd
from ...schemas.errors import StepbusError

KILLED = "Killed"
"""The error of a run whose process is dead."""


class RunStatus(NamedTuple):
    """How a run ended."""

    kind: Literal["finished", "stopped", "failed", "killed"] = "finished"
    reason: str = ""
    """Why it was stopped; the exception of a failed one."""
    stopped_by: str = ""
    """The voters that stopped it."""

    @property
    def succeeded(self) -> bool:
        """Whether it ended as it should: it was done, or stopped by a vote."""
        return self.kind in ("finished", "stopped")

    def told(self) -> dict[str, str]:
        """It as named texts, `status`, `reason` and `stopped_by`, those that are not empty."""
        found = {"status": self.kind, "reason": self.reason, "stopped_by": self.stopped_by}
        return {name: text for name, text in found.items() if text}

    @classmethod
    def of(cls, event: TrainEnd | RunFailed) -> RunStatus:
        """The status that an event tells."""
        if isinstance(event, TrainEnd):
            return cls(event.status, event.reason, event.stopped_by)
        kind: Literal["failed", "killed"] = "killed" if event.error == KILLED else "failed"
        return cls(kind, f"{event.error}: {event.message}".removesuffix(": "))


@dataclasses.dataclass(frozen=True)
class ExperimentRun:
    """A run as it begins, by a training or by an evaluation, prediction or log without one."""

    run_id: str
    """stepbus's id of the run; the same over all its attempts and sessions."""
    attempt: int
    """Which start of the run this is, from 1."""
    name: str | None
    """What people call it; None leaves the name to the tracker."""
    group: str | None
    """What it belongs to: the search of a trial."""
    output_dir: Path
    """The run's folder, under which a tracker writes by default."""
    known: Mapping[str, str]
    """Its id, url and folder in the tracker, where an earlier session or attempt opened it."""
    logging_dir: str | None = None
    """The folder that trackers which write files were told to use."""
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The training arguments, secrets masked."""
    model: str = ""
    """Class name of the model."""
    num_parameters: int = 0
    """Parameters of the model."""
    model_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The model's own configuration, where it has one."""
    trial_params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What a search for hyper-parameters chose for it."""

    @property
    def resumed(self) -> bool:
        """Whether the tracker has had a part of it."""
        return bool(self.known)

    @property
    def params(self) -> dict[str, Any]:
        """All that is known of how the run was made, by name; nested as it was. The arguments win
        over the model's settings of the same name."""
        found = {**self.model_settings, **self.arguments, **self.trial_params}
        if self.model:
            found["model/class"] = self.model
            found["model/num_parameters"] = self.num_parameters
        return found


def run_of_event(event: InitEnd | TrainBegin, known: Mapping[str, str]) -> ExperimentRun:
    """The run that an event begins.

    Args:
        event: which one.
        known: where the tracker has it.
    """
    name, group, trial_params = event.run_name, None, {}
    try:
        state = event.state
    except StepbusError:
        pass
    else:
        if state.trial_name is not None:
            name, group = state.trial_name, event.run_name or event.output_dir or None
            trial_params = dict(state.trial_params or {})
    run = ExperimentRun(
        run_id=event.run_id,
        attempt=event.attempt,
        name=name,
        group=group,
        output_dir=Path(event.output_dir),
        known=known,
        trial_params=trial_params,
    )
    return dataclasses.replace(
        run,
        logging_dir=event.arguments.get("logging_dir"),
        arguments=event.arguments,
        model=event.model,
        num_parameters=event.num_parameters,
        model_settings=event.model_settings,
    )


def plain(value: Any) -> Any:
    """Nested values of an event as ordinary dicts and lists, which can be changed."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def flat(params: Mapping[str, Any], between: str = "/") -> dict[str, Any]:
    """Nested values by one name each, `outer/inner`; lists and tuples stay whole."""
    found: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            inner = flat(value, between).items()
            found.update({f"{name}{between}{key}": item for key, item in inner})
        else:
            found[str(name)] = value
    return found
