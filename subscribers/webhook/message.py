"""What a web hook is told: one message for each thing that happened to a run."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any, Literal, get_args

import pydantic_core

from ...schemas import Event, NonFinite, Resumed, RunFailed, Stalled, TrainBegin, TrainEnd
from ...schemas.values import encodable
from ..trackers.experiment_run import KILLED

Kind = Literal[
    "started", "failed", "killed", "stalled", "resumed", "non_finite", "finished", "stopped"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_KINDS: tuple[Kind, ...] = (
    "failed",
    "killed",
    "stalled",
    "non_finite",
    "finished",
    "stopped",
)
LONGEST = 1_900
"""Characters of a text that people read; Discord takes 2,000."""
LONGEST_STACK = 8_000
"""Characters of a traceback: its end."""
WORDS = {"loss": "loss", "grad_norm": "gradient norm"}
_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclasses.dataclass(frozen=True)
class Message:
    """One message, as it is posted.

    Beside its own fields it has `text`, which Slack and Mattermost show, and `content`, which
    Discord shows; an exception's text calls nobody in either.
    """

    id: str
    """The same however often it is posted."""
    kind: Kind
    step: int
    said: str
    """It as one sentence."""
    fields: dict[str, Any]

    @property
    def label(self) -> str:
        """What it is called where it could not be posted."""
        return f"{self.kind} (step {self.step})"

    def body(self) -> bytes:
        """It as JSON."""
        said = str(encodable(self.said))
        said = said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
        content = {
            "id": self.id,
            "kind": self.kind,
            "message": self.said,
            "text": said.translate(_SLACK),
            "content": said,
            "allowed_mentions": {"parse": []},
            **self.fields,
        }
        return pydantic_core.to_json(encodable(content), inf_nan_mode="strings", fallback=str)


@dataclasses.dataclass(frozen=True)
class Run:
    """What is known of a run since its training began."""

    name: str = ""
    output_dir: str = ""
    max_steps: int = 0


def run_of_event(event: TrainBegin) -> Run:
    """The run whose training begins."""
    return Run(event.run_name or "", event.output_dir, event.max_steps)


def message_of(event: Event, run: Run) -> Message | None:
    """What there is to say of an event; None of one that is nothing to a web hook."""
    name = run.name or event.run_id
    at = f"at step {event.step}" + (f" of {run.max_steps}" if run.max_steps else "")
    details: dict[str, Any] = {}
    kind: Kind
    match event:
        case TrainBegin():
            kind = "started"
            said = f"{name} has started {at}: {event.model or 'a training'}"
            details = {"model": event.model, "resumed_from": event.resumed_from}
        case RunFailed(error=error, message=text):
            kind = "killed" if error == KILLED else "failed"
            how = "was killed soon after" if kind == "killed" else "failed at"
            said = f"{name} {how} {at.removeprefix('at ')}: " + (
                text if kind == "killed" else f"{error}: {text}".removesuffix(": ")
            )
            stack = event.traceback[-LONGEST_STACK:]
            details = {"error": error, "error_message": text, "traceback": stack}
        case Stalled():
            kind = "stalled"
            said = f"{name} stands still {at}: no step has ended for {event.silent_s:.0f} s"
            details = {"silent_s": event.silent_s, "limit_s": event.limit_s}
            details["stack"] = event.stack[-LONGEST_STACK:]
        case Resumed():
            kind = "resumed"
            said = f"{name} goes on {at}, after it stood still for {event.silent_s:.0f} s"
            details = {"silent_s": event.silent_s}
        case NonFinite():
            kind = "non_finite"
            said = f"{name}: the {WORDS[event.value]} of step {event.at_step} is {event.number}"
            details = {"value": event.value, "number": event.number, "at_step": event.at_step}
        case TrainEnd(status=kind):
            by = f" by {event.stopped_by}" if event.stopped_by else ""
            why = f": {event.reason}" if event.reason else ""
            said = (
                f"{name} was stopped {at}{by}{why}"
                if kind == "stopped"
                else (f"{name} has finished {at}{_figures(event)}")
            )
            details = {"reason": event.reason, "stopped_by": event.stopped_by}
            details["metrics"] = dict(event.metrics)
        case _:
            return None
    fields = {
        "run_id": event.run_id,
        "run_name": run.name,
        "attempt": event.attempt,
        "step": event.step,
        "max_steps": run.max_steps,
        "epoch": event.epoch,
        "time": event.time,
        "host": socket.gethostname(),
        "output_dir": run.output_dir,
        **details,
    }
    ident = f"{event.run_id}-{event.attempt}-{event.seq if event.seq >= 0 else kind}"
    return Message(ident, kind, event.step, said, fields)


def _figures(event: TrainEnd) -> str:
    """Its closing figures that people ask for first."""
    shown = {"train_loss": "loss {:.4g}", "train_runtime": "{:.0f} s"}
    told = [
        shape.format(value)
        for name, shape in shown.items()
        if isinstance(value := event.metrics.get(name), int | float)
    ]
    return f" ({', '.join(told)})" if told else ""
