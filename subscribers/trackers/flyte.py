"""Within a task of Flyte: what was logged as a deck, checkpoints for a retry of the task."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from ...schemas import Save
from ...schemas.errors import ArgumentError, DeliveryError
from .experiment import ExperimentTracker
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus, flat

DECK = "Log History"
NO_TASK = "no task of Flyte runs in this thread"


class FlyteCallback(ExperimentTracker):
    """Shows what a run logged as a deck of the Flyte task that it is in, and hands its checkpoints
    to Flyte, which gives the last one to the task when it is tried again:

        @task(enable_deck=True, retries=2)
        def fine_tune() -> None:
            previous = current_context().checkpoint.restore()
            trainer = Trainer(..., callbacks=[FlyteCallback()])
            trainer.train(resume_from_checkpoint=previous)

    The deck `Log History` has each logged value with its step, the parameters and the status, and
    is made when Flyte asks for it: evaluations after the training are in it. Several runs of one
    task have a deck each. The callback is made in the task's own thread, whose context it works in.

    Args:
        save_log_history: make the deck.
        sync_checkpoints: hand each checkpoint to Flyte.
    """

    tracker_name: ClassVar[str] = "flyte"
    package: ClassVar[str] = "flytekit"
    extra: ClassVar[str] = "flyte"
    set_up_by: ClassVar[str] = "a Flyte task that names it"
    needs_login: ClassVar[bool] = True
    delivery: ClassVar[str | None] = "thread"
    prefers_process: ClassVar[bool] = False
    rewrites_keys: ClassVar[bool] = False
    remembers_place: ClassVar[bool] = False

    def __init__(self, save_log_history: bool = True, sync_checkpoints: bool = True) -> None:
        super().__init__()
        self._arguments = {
            "save_log_history": save_log_history,
            "sync_checkpoints": sync_checkpoints,
        }
        self._task = Task.here()
        self._histories: dict[str, History] = {}
        self._history = History()

    def made_with(self) -> dict[str, Any]:
        """Its arguments."""
        return dict(self._arguments)

    @classmethod
    def is_set_up(cls) -> bool:
        """Never unasked, as in the reference."""
        return False

    @classmethod
    def why_not(cls) -> str:
        """It works within a task only."""
        return "" if Task.here() is not None else NO_TASK

    def check(self, args: object) -> None:
        """Refuses to work outside of a task.

        Raises:
            ArgumentError: it was made outside of one.
        """
        if self._task is None:
            raise ArgumentError(
                f"FlyteCallback: {NO_TASK}: make it within the function under @task, in the thread "
                "that Flyte calls."
            )

    def _new_beside(self, run_id: str) -> Self:
        made = super()._new_beside(run_id)
        # It was made in another thread than the task's.
        made._task, made._histories = self._task, self._histories
        return made

    def start(self, run: ExperimentRun) -> None:
        """Adds the run's deck to those of the task, unless it is there from an earlier session."""
        task = self._task
        if task is None:
            raise DeliveryError(f"FlyteCallback: {NO_TASK} in which it was made.")
        self.uploads = "checkpoint" if self._arguments["sync_checkpoints"] else "no"
        if self.uploads != "no" and task.checkpoint is None:
            self.uploads = "no"
            self.say_once("Flyte takes no checkpoints of this task: they stay in the output_dir.")
        known = self._histories.get(run.run_id)
        self._history = known or History()
        self._histories[run.run_id] = self._history
        if self._arguments["save_log_history"] and known is None:
            task.add_deck(run.name or run.run_id, self._history)
            if not task.shows_decks:
                self.say_once(
                    "The Flyte task shows no decks: @task(enable_deck=True) has it do so."
                )
        self.found(id=task.execution)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Keeps them for the deck."""
        self._history.params |= flat(params)

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Keeps them for the deck."""
        self._history.add(step, time, metrics)

    def upload_checkpoint(self, folder: Path, event: Save) -> None:
        """Hands it to Flyte, in the place of the one before."""
        assert self._task is not None
        self._task.save(folder)

    def finish(self, status: RunStatus) -> None:
        """Keeps the status for the deck."""
        self._history.status = status.told()


class History:
    """What a deck shows of a run."""

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        """A row for each log."""
        self.status: dict[str, str] = {}
        self._newest = (-1, 0.0)

    def add(self, step: int, time: float, values: Mapping[str, Any]) -> None:
        """Adds what was logged at a step; what comes with the time of the one before is of it."""
        if (step, time) != self._newest:
            self._newest = (step, time)
            self.rows.append({"step": step})
        self.rows[-1] = {**self.rows[-1], **values}

    def html(self) -> str:
        """It as tables."""
        rows = list(self.rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
        status = self.status or {"status": "running"}
        return "\n".join(
            (
                _table("log", names, [[row.get(name) for name in names] for row in rows]),
                _table("status", list(status), [list(status.values())]),
                _table("parameters", ["name", "value"], [[*item] for item in self.params.items()]),
            )
        )


class Task(NamedTuple):
    """The task of Flyte in whose thread somebody asked for it."""

    context: Any
    checkpoint: Any
    """Takes checkpoints; None where Flyte has no place for them."""
    decks: list[Any]
    shows_decks: bool
    execution: str
    """What Flyte calls this execution."""

    @classmethod
    def here(cls) -> Task | None:
        """The task that runs in this thread; None where there is none. Imports nothing."""
        if "flytekit" not in sys.modules:
            return None
        from flytekit import FlyteContextManager

        context = FlyteContextManager.current_context()
        execution, params = context.execution_state, context.user_space_params
        if execution is None or execution.mode is None or params is None:
            return None
        try:
            checkpoint = params.checkpoint
        except NotImplementedError:
            checkpoint = None
        name = getattr(params.execution_id, "name", "")
        return cls(
            context, checkpoint, params.decks, bool(getattr(params, "enable_deck", True)), str(name)
        )

    def add_deck(self, run: str, history: History) -> None:
        """Adds a deck that shows what the history has when Flyte asks for it."""
        from flytekit import Deck

        class LogDeck(Deck):  # type: ignore[misc]
            """Is written when it is asked for, as Flyte's own deck of times is."""

            @property
            def html(self) -> str:
                return history.html()

        # Flyte shows one deck of each name.
        taken = {deck.name for deck in self.decks}
        name = DECK if DECK not in taken else f"{DECK} ({run})"
        number = 2
        while name in taken:
            name, number = f"{DECK} ({run}, {number})", number + 1
        self.decks.append(LogDeck(name, auto_add_to_deck=False))

    def save(self, folder: Path) -> None:
        """Hands a folder to Flyte."""
        from flytekit import FlyteContextManager

        # Where files go, and with which rights, is a matter of the task's context.
        with FlyteContextManager.with_context(self.context.new_builder()):
            self.checkpoint.save(folder)


def _table(kind: str, names: list[str], rows: list[list[Any]]) -> str:
    head = "".join(f"<th>{escape(str(name))}</th>" for name in names)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{escape(_text(value))}</td>' for value in row)}</tr>" for row in rows
    )
    return f'<table class="stepbus-{kind}">\n<tr>{head}</tr>\n{body}\n</table>'


def _text(value: Any) -> str:
    return "" if value is None else str(value)
