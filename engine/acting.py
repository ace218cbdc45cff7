"""What a verdict sets in motion: a log, an evaluation, a checkpoint; and the step's own event."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from ..bus import Deferred, RunLink
from ..bus.control_channel import Outcome
from ..schemas import Action, TrainingArguments
from ..schemas.strategies import SaveStrategy
from .evaluating import Evaluating
from .front_end import FrontEnd
from .hosting import Hosted
from .log_window import LogWindow
from .metric_buffer import Number, as_now
from .rounds import Act, Rounds, Unavailable
from .saving import IN_TRANSIT, Saving
from .scalars.waits import HistoryRow
from .signals import StopSignals


class Acting:
    """Acts for one run, and remembers what its steps gave to be logged."""

    def __init__(
        self,
        args: TrainingArguments,
        link: RunLink,
        saving: Saving,
        rounds: Rounds,
        evaluating: Evaluating,
        window: LogWindow,
        optimizer: torch.optim.Optimizer | None,
        signals: StopSignals | None,
        front_end: FrontEnd,
        hosted: Hosted | None = None,
    ) -> None:
        self._front_end = front_end
        self._last_logged = link.state.global_step
        self._args = args
        self._link = link
        self._saving = saving
        self._rounds = rounds
        self._evaluating = evaluating
        self.window = window
        """What has been measured since the last log."""
        self._optimizer = optimizer
        self._signals = signals
        self._hosted = hosted
        self._metrics = window.metrics
        self._metrics.waits.begin(link.account, link.pulse.thread_id)
        self._step_end = link.emitters["step_end"]
        self._log_event = link.emitters["log"]
        self.grad_norm: Number | None = None
        """Of the last step, before clipping."""
        self.learning_rate: Number | None = None
        """The rate that the present step uses."""
        self.pushes_to: Callable[[], str] = str
        """The repository that a checkpoint is pushed to; empty where none is."""
        self.seconds = 0.0
        """How long actions have taken since this was last set to 0."""
        self.log_s = 0.0
        """Of these, how long log rounds have taken; likewise."""

    def actions(self) -> Mapping[Action, Act]:
        """What to call for each action."""
        return {"log": self._log, "evaluate": self._evaluate, "save": self._save}

    def note_learning_rate(self) -> None:
        """Notes the learning rate that the step which begins will use."""
        if self._optimizer is not None:
            rate = self._optimizer.param_groups[0]["lr"]
            self.learning_rate = rate if type(rate) is float else as_now(rate)

    def end_step(
        self,
        loss: Number | None,
        grad_norm: Number | None,
        step_s: float,
        data_wait_s: float,
        bus_s: float,
        *,
        asks_gate: bool,
    ) -> None:
        """Announces the end of a step.

        Args:
            loss: of the step.
            grad_norm: of the step.
            step_s: how long it took.
            data_wait_s: of that, waiting for data.
            bus_s: how long the end of the step before took.
            asks_gate: False where nobody in the gate has anything to do.
        """
        link, emitter = self._link, self._step_end
        if not (emitter.wanted or link.gate.subscriptions):
            # Callbacks of Hugging Face's shape are not given these values: none for them alone.
            link.fire(emitter)
            link.gate.idling.look_ahead(self._args, link.state)
            return
        numbers, handles = self._metrics.push((loss, grad_norm, self.learning_rate))
        values = {
            "loss": numbers[0],
            "grad_norm": numbers[1],
            "learning_rate": numbers[2],
            "step_s": step_s,
            "data_wait_s": data_wait_s,
            "bus_s": bus_s,
        }
        if asks_gate:
            link.fire(emitter, values, handles)
            link.gate.idling.look_ahead(self._args, link.state)
        else:
            emitter.emit(values, handles)

    def evaluate_at_start(self) -> None:
        """The evaluation before the first step; as in the reference it is never the best."""
        with contextlib.suppress(Unavailable):
            neutral = self._front_end.evaluates_neutrally
            self._evaluating.run(may_be_best=False, neutral=neutral)

    def emit_log(self, logs: dict[str, Any]) -> None:
        """Adds a row to the history and says so; waits for nothing that is on its way."""
        state = self._link.state
        logs.setdefault("epoch", state.epoch)
        row = {**logs, "step": state.global_step}
        # Asking whether a number is a handle takes longer than all the rest.
        handles: tuple[Deferred, ...] = ()
        for value in logs.values():
            if type(value) is not float and isinstance(value, Deferred):
                handles += (value,)
        state.add_log(HistoryRow(row, self._metrics.waits) if handles else row)
        link = self._link
        if link.control.touched:
            link.reset_flags("log")
        if self._log_event.active:
            link.fire(self._log_event, {"logs": logs}, handles)

    def closing_figures(
        self, begun_s: float, steps: int, samples: int, *, waited_s: float
    ) -> dict[str, Any]:
        """The last log of a run: how long it took, and its mean loss.

        Args:
            begun_s: when it began, by `time.perf_counter`.
            steps: done by this attempt.
            samples: trained on by this attempt.
            waited_s: how long it waited for subscribers at its end, which does not count.
        """
        runtime = time.perf_counter() - begun_s - waited_s
        # What run.log was given since the last log must not be lost.
        waits = self._metrics.waits
        with waits.because("the end of training"):
            rest = waits.fill({} if self.window.empty else self.window.take())
            rest.pop("loss", None)
            mean = self.window.mean_loss_of_run()
        figures = {
            **self._link.measured.close(),
            **rest,
            "train_runtime": runtime,
            "train_samples_per_second": samples / runtime,
            "train_steps_per_second": steps / runtime,
            "total_flos": self._link.state.total_flos,
        }
        if mean is not None:
            figures["train_loss"] = mean
        with waits.because("the end of training"):
            return self._front_end.closing_figures(
                figures, seconds=runtime, steps=steps, waited_s=waited_s
            )

    def _log(self, outcome: Outcome) -> str:
        step = self._link.state.global_step
        if outcome.scheduled and step <= self._last_logged and self.window.empty:
            raise Unavailable(f"step {step} has been logged already")
        with self._timed(log=True):
            self._log_step()
        return f"logged at step {step}"

    def log_as_scheduled(self) -> None:
        """The log round that the schedule asks for, where it asks for nothing else and nobody else
        asks for anything: no vote is cast for it."""
        started = time.perf_counter()
        link = self._link
        self._log_step()
        link.gate.idling.go_on()
        seconds = time.perf_counter() - started
        self.seconds += seconds
        self.log_s += seconds
        link.account.log_s += seconds

    def _log_step(self) -> None:
        self._last_logged = self._link.state.global_step
        step_figures = {"grad_norm": self.grad_norm, "learning_rate": self.learning_rate}
        logs = self.window.take(step_figures)
        measured = self._link.measured
        if measured.waiting:
            logs |= {k: v for k, v in measured.take().items() if k not in logs}
        self._front_end.log(logs)

    def _evaluate(self, outcome: Outcome) -> str:
        if not self._evaluating.possible:
            raise Unavailable("the loop gave no evaluate= function")
        if self._signals is not None and self._signals.received is not None:
            raise Unavailable(f"not begun: {self._signals.received.name} was received")
        if self._hosted is not None and self._hosted.cancelled:
            raise Unavailable("not begun: the host was cancelled")
        voted = not any(cast.scheduled for cast in outcome.casts)
        with self._timed():
            neutral = voted or self._front_end.evaluates_neutrally
            metrics, improved = self._evaluating.run(neutral=neutral)
            self._front_end.evaluated(metrics)
        state = self._link.state
        if improved:
            self._saving.note_best()
        if improved and self._args.save_strategy == SaveStrategy.BEST:
            self._rounds.schedule("save")
        figures = {name: value for name, value in metrics.items() if name != "epoch"}
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
        return f"evaluated at step {state.global_step}: {', '.join(shown)}"

    def _save(self, outcome: Outcome) -> str:
        link, saving = self._link, self._saving
        left_s = self._left_s()
        if left_s is not None and saving.last_save_s > left_s:
            what = "signal" if self._signals and self._signals.received else "cancellation"
            raise Unavailable(
                f"the last save took {saving.last_save_s:.1f} s, the {what} leaves {left_s:.1f} s"
            )
        if left_s is not None and saving.holds_step:
            raise Unavailable(f"{saving.folder.name} has been written already")
        waits = self._metrics.waits.because("a checkpoint")
        with self._timed(), self._busy("saving"), waits:
            values, lease = saving.write()
            saving.rotate()
            heard = link.emitters["save"].wanted
            if heard:
                lease.acquire(IN_TRANSIT)
            repository = self.pushes_to()
            if repository:
                link.emit("push_begin", {"repository": repository})
            link.reset_flags("save")
            link.emit("save", values, note=lease)
            if heard:
                # At once, since the next rotation would leave the checkpoint where it is.
                link.bus.request(lambda: lease.release(IN_TRANSIT), at_once=True)
        return str(values["path"])

    def _left_s(self) -> float | None:
        """What a signal, or a host that was cancelled, leaves, s; None where neither came."""
        left_s = self._signals.left_s(self._args.preemption_budget_s) if self._signals else None
        if left_s is None and self._hosted is not None:
            left_s = self._hosted.left_s()
        return left_s

    @contextlib.contextmanager
    def _timed(self, *, log: bool = False) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.seconds += seconds
            if log:
                self.log_s += seconds
                self._link.account.log_s += seconds

    @contextlib.contextmanager
    def _busy(self, what: str) -> Iterator[None]:
        pulse = self._link.pulse
        pulse.busy = what
        try:
            yield
        finally:
            pulse.busy = ""
            pulse.beat_s = self._link.bus.clock.monotonic()
