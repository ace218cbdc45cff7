"""Where a run stands: the live state, and snapshots of it that cost nothing to take."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self, cast

from pydantic import TypeAdapter, ValidationError

from .errors import CheckpointError
from .history import MARK, PENDING, HistoryView, LogHistory, add_row
from .values import FrozenDict, freeze

_PER_STEP = frozenset({"global_step", "epoch"})


@dataclass
class TrainerState:
    """The live state of a run: fields, names and defaults of Hugging Face's `TrainerState`.

    Callbacks of Hugging Face's shape get this object; events carry a snapshot of it, which
    later steps never change. Assigning to an attribute is all it takes to change it.
    """

    epoch: int | float = 0
    """Epochs done, with the fraction of the current one."""
    global_step: int = 0
    """Optimizer steps done."""
    max_steps: int = 0
    """Optimizer steps that the whole run has."""
    logging_steps: int = 500
    """Steps between logs, an absolute count."""
    eval_steps: int = 500
    """Steps between evaluations, an absolute count."""
    save_steps: int = 500
    """Steps between checkpoints, an absolute count."""
    train_batch_size: int | None = None
    """Samples in a micro-batch."""
    num_train_epochs: int = 0
    """Epochs that the whole run has, rounded up."""
    num_input_tokens_seen: int = 0
    """Tokens seen, where they are counted."""
    total_flos: float = 0.0
    """Floating point operations done, where they are counted."""
    log_history: list[dict[str, Any]] = field(default_factory=list)
    """Every log so far, a row each with its `step`; append-only."""
    best_metric: int | float | None = None
    """The best value so far of the metric for the best model."""
    best_global_step: int | None = None
    """The step of that value."""
    best_model_checkpoint: str | None = None
    """The checkpoint folder of that step, where one was written."""
    is_local_process_zero: bool = True
    """True in the first process of this machine."""
    is_world_process_zero: bool = True
    """True in the first process of the run."""
    is_hyper_param_search: bool = False
    """Always False: stepbus runs no hyper-parameter search."""
    trial_name: str | None = None
    """Name of the trial, for trackers that group runs."""
    trial_params: dict[str, Any] | None = None
    """Parameters of the trial, for trackers that log them."""
    stateful_callbacks: dict[str, Any] = field(default_factory=dict)
    """State of the callbacks that have one, as saved in checkpoints."""

    def __setattr__(self, name: str, value: object) -> None:
        own = self.__dict__
        own[name] = value
        if name not in _PER_STEP:
            own["_rest"] = own[MARK] = None

    def advance(self, epoch: float) -> None:
        """Notes that an optimizer step is done; as assigning both, at a third of the cost."""
        own = self.__dict__
        own["global_step"] += 1
        own["epoch"] = epoch

    def rest(self) -> StateRest:
        """The state without step and epoch, frozen; the same object until something is assigned."""
        rest: StateRest | None = self.__dict__.get("_rest")
        if rest is None:
            rest = self.__dict__["_rest"] = self.new_rest()
        return rest

    def new_rest(self) -> StateRest:
        """As `rest`, made anew and not remembered: for other threads than the state's own."""
        own = dict(self.__dict__)
        values = {k: v for k, v in own.items() if k not in _LEFT_OUT}
        return StateRest(freeze(values), own["log_history"])

    def mark(self) -> StateMark:
        """What an event keeps of the state: the same object until something is assigned, logged, or
        the history is read, which its reader may add to."""
        own = self.__dict__
        mark: StateMark | None = own.get(MARK)
        if mark is None:
            rest = self.rest()
            mark = own[MARK] = (rest, len(rest.history))
        return mark

    def new_mark(self) -> StateMark:
        """As `mark`, made anew and not remembered: for other threads than the state's own."""
        rest = self.new_rest()
        return (rest, len(rest.history))

    def add_log(self, row: dict[str, Any]) -> None:
        """Adds a row to the history; does not wait for what is on its way in it."""
        own = self.__dict__
        add_row(own, row)
        rest = own.get("_rest")
        own[MARK] = None if rest is None else (rest, len(rest.history))

    def snapshot(self) -> TrainerState:
        """The state as it is now, read-only."""
        rest = self.rest()
        return make_snapshot(rest, self.global_step, self.epoch, len(rest.history))

    def __getstate__(self) -> dict[str, Any]:
        """What a copy gets: the history with numbers in it."""
        self.log_history  # noqa: B018 - settles what is on its way
        return {name: value for name, value in self.__dict__.items() if name not in (PENDING, MARK)}

    def to_json(self) -> str:
        """The text of `trainer_state.json`, in the reference's spelling."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(TrainerState)}
        values["log_history"] = [dict(row) for row in self.log_history]
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    def save_to_json(self, json_path: str | Path) -> None:
        """Writes `trainer_state.json` in the reference's format."""
        Path(json_path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def from_json(cls, text: str, source: str = "trainer_state.json") -> Self:
        """Reads what `to_json` wrote; fields of a newer version are ignored.

        Raises:
            CheckpointError: the text is not a trainer state.
        """
        try:
            values = json.loads(text)
            known = {f.name for f in dataclasses.fields(TrainerState)}
            fields = {name: value for name, value in values.items() if name in known}
            return cast(Self, _ADAPTER.validate_python(fields))
        except (ValueError, AttributeError, ValidationError) as error:
            raise CheckpointError(f"{source} is not a trainer state: {error}") from error

    @classmethod
    def load_from_json(cls, json_path: str | Path) -> Self:
        """Reads a `trainer_state.json`.

        Raises:
            CheckpointError: the file is not a trainer state.
        """
        try:
            text = Path(json_path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{json_path} is not a trainer state: {error}") from error
        return cls.from_json(text, str(json_path))


_LEFT_OUT = frozenset({*_PER_STEP, "log_history", "_rest", PENDING, MARK})
_ADAPTER = TypeAdapter(TrainerState)
TrainerState.log_history = LogHistory()  # type: ignore[assignment]


class StateRest(NamedTuple):
    """What an event keeps of the state besides its own step and epoch."""

    values: FrozenDict[str, Any]
    history: list[dict[str, Any]]


StateMark = tuple[StateRest, int]
"""The rest of the state, and how many rows its history had."""


class Snapshot(TrainerState):
    """A state as it was: what `event.state` gives. Reads like the live one, refuses to change."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"A snapshot cannot be changed, so {name!r} was not set: an event tells what the state "
            "was. To change the run, return a Vote; to change the live state, use a callback of "
            "Hugging Face's shape (TrainerCallback)."
        )

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TrainerState):
            return NotImplemented
        return all(
            getattr(self, f.name) == getattr(other, f.name) for f in dataclasses.fields(self)
        )

    __hash__ = None  # type: ignore[assignment]


def make_snapshot(rest: StateRest, step: int, epoch: float, num_rows: int) -> TrainerState:
    """Puts a snapshot together; costs one copy of a dict of about twenty entries."""
    state = object.__new__(Snapshot)
    own = state.__dict__
    own.update(rest.values)
    own["global_step"] = step
    own["epoch"] = epoch
    own["log_history"] = HistoryView(rest.history, num_rows)
    return state
