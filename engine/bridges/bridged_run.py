"""One run of somebody else's trainer on a bus: opened, mirrored, voted on, ended."""

from __future__ import annotations

import itertools
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...bus import EventBus, Ledger
from ...bus.call_values import plain_values
from ...bus.ranks import Ranks
from ...schemas import Action
from .. import run_identity
from ..ending import AFTER_ERROR_S, Drain
from ..rng import preserved_rng
from ..rounds import Act, Rounds
from ..run_identity import RunIdentity
from ..summary import RunSummary
from .asked import Asked
from .bridged_steps import BridgedSteps
from .closing import completed
from .ranks import REFUSAL, agreed

_opened = itertools.count()


def new_identity() -> RunIdentity:
    """The first attempt of a new run."""
    return RunIdentity(uuid.uuid4().hex[:12], 1)


class BridgedRun(BridgedSteps):
    """A run of a foreign trainer. The bridge calls it where the trainer calls the bridge:

        run = BridgedRun(bus, {"save": ask_for_a_save, ...}, output_dir=folder)
        run.open()                             # init_end; starts a bus that is not running
        run.begin({"model": ..., ...})         # train_begin
        run.at(step, epoch)                    # at every hook: where the foreign state stands
        run.emit("step_begin")                 # and so on; first looks whether anybody listens
        run.begin_step()                       # the data is there: all before was waiting for it
        run.end_step(learning_rate=...)        # step_end, with times, then a merge point
        run.log(logs)                          # log, and a row of the history
        run.hold("evaluate", only=("save",))   # a further merge point
        run.finish(metrics=...)                # train_end; or run.fail(error): run_failed
        run.close()                            # drains, records late votes, stops the bus

    All of it on one thread, the training's. `run.state` is our `TrainerState`: assign what has
    changed; an event's snapshot is taken from it. `run.link.emitters[kind]` is for a hook that is
    called at each step: keep it, and look at `.active` before anything else.

    Args:
        bus: where events go; one that is not running is started and stopped again.
        actions: what asks the foreign trainer for an action, by action. It returns what it did,
            for the verdict, or raises `Unavailable`. Where the trainer does it later, it sets the
            trainer's flag and returns `run.asked.note(outcome)`; the verdict waits for
            `run.asked.done(action, detail)`, and the flag is set again at the next merge point
            where that has not come. Those for stop and stop_epoch set a flag and are on record at
            once.
        scheduled: what the trainer is about to do without having been asked by a vote, asked for
            where votes are counted, so that a veto holds it off.
        vetoed: hears of an action that was asked for and vetoed, to clear the trainer's own flag.
        output_dir: the folder of the run: vote files, run.json and ledger.json; None without one.
        run_name: what people call the run.
        logging_dir: the folder that trackers were told to use.
        identity: the run and attempt; a new run by default. All ranks take that of rank 0.
        trains: whether it is a training; votes that were cast before it wait for one.
        ranks: which of several processes this is. With several, votes are refused.
        context: what gate callbacks of Hugging Face's shape are given, args and state among it.
    """

    def __init__(
        self,
        bus: EventBus,
        actions: Mapping[Action, Act],
        *,
        output_dir: Path | None = None,
        run_name: str | None = None,
        logging_dir: str | None = None,
        identity: RunIdentity | None = None,
        trains: bool = True,
        ranks: Ranks = Ranks(),  # noqa: B008 - a constant
        context: Callable[[], dict[str, Any]] | None = None,
        vetoed: Callable[[Action], None] | None = None,
        scheduled: Callable[[], Iterable[Action]] = tuple,
    ) -> None:
        super().__init__(bus, ranks, scheduled)
        self.output_dir = output_dir
        self.trains = trains
        self.summary: RunSummary | None = None
        """How it went, once it is closed."""
        self.identity = identity or new_identity()
        self._actions = actions
        self._vetoed = vetoed
        self._run_name = run_name
        self._logging_dir = logging_dir
        self._context = context
        self._drain = Drain(bus.drain_timeout)
        self._begun_s: float | None = None
        self._over = False
        self._closed = False

    # Its life

    def open(self) -> None:
        """Starts the bus where nobody has, opens the run, and announces it (`init_end`).

        Raises:
            BusClosedError: the bus is closed.
            DeliveryError: a required subscriber could not be set up.
            StepbusError: in a forked child, where the bus is inert.
        """
        bus, folder = self.bus, self.output_dir if self._ranks.rank == 0 else None
        bus.hold()
        try:
            self.identity = agreed(self.identity, self._ranks, next(_opened))
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                run_identity.record(folder, self.identity)
            link = bus.open_run(
                self.state,
                run_id=self.identity.run_id,
                attempt=self.identity.attempt,
                rank=self._ranks.rank,
                folder=folder,
                trains=self.trains,
            )
        except BaseException:
            bus.let_go(0)
            raise
        self.connect(link)
        # One for all handlers: it remembers what is dear to read.
        keeper = preserved_rng()
        link.gate.guard = lambda: keeper
        if self._context is not None:
            link.context = self._context
        self._drain.account = link.account
        self.metrics.waits.begin(link.account, link.pulse.thread_id)
        self.rounds = Rounds(link)
        self.asked = Asked(self.rounds, self._actions)
        self.rounds.actions = self.asked.actions
        if self._vetoed is not None:
            self.rounds.vetoed = self._vetoed
        if self._ranks.several:
            self.rounds.refusal = REFUSAL
        self.emit(
            "init_end",
            {
                "run_name": self._run_name,
                "output_dir": str(self.output_dir or ""),
                "logging_dir": self._logging_dir,
            },
        )

    def begin(self, values: dict[str, Any]) -> None:
        """Says that training starts.

        Args:
            values: the fields of `train_begin`; run_name and output_dir are filled in.
        """
        self._begun_s = time.perf_counter()
        own = {"run_name": self._run_name, "output_dir": str(self.output_dir or "")}
        self.emit("train_begin", own | values)
        self.link.pulse.beat_s = self._monotonic()
        self.leave()

    def finish(self, metrics: Mapping[str, Any] | None = None, *, stopped: bool = False) -> None:
        """Says that training ended as it should.

        Args:
            metrics: the closing figures.
            stopped: it was left before its last step.
        """
        stop = self.rounds.stop
        by_vote = stop is not None and stopped
        status = "stopped" if stopped else "finished"
        reason = stop.reason if stop is not None and by_vote else ""
        closing = {**self.link.measured.close(), **(metrics or {})}
        figures = plain_values("the closing figures", closing)
        self._over = True
        self.link.pulse.beat_s = None
        self.asked.drop("the trainer ended without it")
        self.emit(
            "train_end",
            {
                "status": status,
                "reason": reason,
                "stopped_by": stop.voters if stop is not None and by_vote else "",
                "metrics": figures,
            },
        )
        self._sum_up(status, reason, figures)

    def fail(self, error: BaseException) -> None:
        """Says that an exception left the trainer; after `finish` it only shortens the waiting."""
        self._drain.limit(AFTER_ERROR_S)
        self.link.pulse.beat_s = None
        if self._over:
            return
        self._over = True
        self.asked.drop(f"it failed: {type(error).__name__}: {error}")
        text = "".join(traceback.format_exception(error))
        values = {"error": type(error).__name__, "message": str(error), "traceback": text}
        self.link.emit("run_failed", values, note=error)
        self._sum_up("failed", f"{type(error).__name__}: {error}", {})

    def close(self) -> None:
        """Delivers what is left, puts late votes on record, and lets go of the bus.

        Waits for the bus's drain_timeout, for 10 s after a failure.
        """
        if self._closed:
            return
        self._closed = True
        link = self.link
        link.pulse.beat_s = None
        try:
            if not self.bus.closed:
                self._drain.flush(self.bus)
            link.collect_gate_votes()
            left = self.bus.close_run(link)
            self.rounds.close(left)
            if left and not self.bus.closed:
                self._drain.flush(self.bus)
        finally:
            with self._drain.timed():
                self.bus.let_go(self._drain.seconds)
            self._complete_summary()

    @property
    def ledger(self) -> Ledger:
        """What the run, and each subscriber, cost so far."""
        return self.bus.ledger_of(self.link)

    @property
    def over(self) -> bool:
        """Whether `finish` or `fail` was called."""
        return self._over

    def _sum_up(self, status: str, reason: str, metrics: dict[str, Any]) -> None:
        begun_s = self._begun_s
        self.summary = RunSummary(
            status=status,
            reason=reason,
            global_step=self.state.global_step,
            runtime_s=time.perf_counter() - begun_s if begun_s is not None else 0.0,
            metrics=metrics,
            output_dir=str(self.output_dir or ""),
        )

    def _complete_summary(self) -> None:
        if self.summary is not None:
            keeps = self.output_dir is not None and not self._ranks.rank and self._begun_s
            self.summary = completed(
                self.summary,
                self.state.best_model_checkpoint,
                self.ledger,
                self.output_dir if keeps else None,
            )
