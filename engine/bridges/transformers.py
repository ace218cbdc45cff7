"""The bus behind transformers' own Trainer, as one of its callbacks."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from ...bus import EventBus, Lease
from ...bus.diagnostics import get_logger
from .. import run_identity
from .bridged_run import BridgedRun
from .host_values import host_values
from .their_calls import Phase, TheirCalls
from .their_state import checkpoint_of, length_of, mirror, saved

try:
    from transformers.trainer_callback import TrainerCallback
except ImportError as error:
    raise ImportError(
        f"TransformersBridge needs transformers, which cannot be imported ({error}): pip install "
        "'transformers[torch]'."
    ) from error

log = get_logger()

LAST_WORDS_S = 5.0
"""How long the end of the last epoch waits for the votes of those who listen; their Trainer counts
it as training."""


class TransformersBridge(TheirCalls, TrainerCallback):
    """Puts a bus behind a `transformers.Trainer`: one more callback, as a class or an instance.

        bridge = TransformersBridge(bus)
        trainer = transformers.Trainer(..., callbacks=[bridge])

    Every hook becomes its event, in their order, with the state and arguments of theirs; votes act
    through their control, and the verdict is on record once their Trainer has done what was asked.
    A call of `train()` is a run, which starts and stops a bus that nobody else has started;
    `evaluate()` and `predict()` outside of it are sessions of that run. `with bridge:` keeps one
    bus running, and trackers open, over several calls.

    Args:
        bus: where events go; one of its own by default, at `bridge.bus`.

    Raises:
        ImportError: on import: transformers is not installed.
    """

    def __init__(self, bus: EventBus | None = None) -> None:
        super().__init__(bus or EventBus(), owns_bus=bus is None)

    def __enter__(self) -> Self:
        self.bus.hold()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abandon(error)
        self.bus.let_go(self.drain_s(error))

    def close(self) -> None:
        """Ends a run that is still open, as failed, and closes a bus of the bridge's own."""
        self.abandon(None)
        if self.owns_bus:
            self.bus.close()

    # Their hooks

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Has the calls of the trainer watched; `init_end` comes when a run is opened."""
        self.find()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Opens the run; a second one of the same call is a retry with a smaller batch."""
        self.begin_training(args, state, control, kwargs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says that training has ended."""
        run = self._seen(state)
        if run is not None and not run.over:
            stopped = bool(control.should_training_stop) and state.global_step < state.max_steps
            run.finish(self.final_logs, stopped=stopped)
        self.hook_done()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says so."""
        run = self._seen(state)
        if run is not None:
            run.emit("epoch_begin")

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A merge point; after the last epoch, those who listen are waited for before it."""
        run = self._seen(state)
        if run is None:
            return
        run.emit("epoch_end")
        if (
            control.should_training_stop
            or state.global_step >= state.max_steps
            or state.epoch >= state.num_train_epochs
        ):
            run.hear_out(LAST_WORDS_S)
        self.phase = Phase.ACTING
        new = state.global_step > self.logged_at
        run.hold("epoch_end", only=("log", "evaluate", "save") if new else ("evaluate", "save"))
        run.leave()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The data is there."""
        run = self._run
        if run is not None:
            run.loaded_s = time.perf_counter()
            self.phase = Phase.STEPPING
            if self.acted:
                self.round_over(state)
            if self._step_begin.active:
                self._at(state)
                run.link.fire(self._step_begin)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says so."""
        if self._substep_end.active and self._at(state) is not None:
            self._substep_end.link.fire(self._substep_end)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says so."""
        if self._pre_optimizer_step.active and self._at(state) is not None:
            self._pre_optimizer_step.link.fire(self._pre_optimizer_step)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says so, and notes the rate that the step has used: the schedule moves on next."""
        if self._step_end.active:
            rate = kwargs["optimizer"].param_groups[0]["lr"]
            self.learning_rate = rate if type(rate) is float else self.number(rate)
        if self._optimizer_step.active and self._at(state) is not None:
            self._optimizer_step.link.fire(self._optimizer_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The merge point of every step."""
        run = self._run
        if run is not None:
            own = run.state.__dict__
            own["global_step"] = state.global_step
            own["epoch"] = state.epoch
            self.control = control
            if self.counts_tokens:
                run.state.num_input_tokens_seen = state.num_input_tokens_seen
            self.phase = Phase.ACTING
            run.end_step(self.learning_rate)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Says so; after a log of the loop's own, evaluations and saves can still be asked for."""
        rows = state.log_history
        run = self._seen(state, new_rows=1 if rows else 0)
        if run is None:
            run = self.open_session(args, state, new_rows=1 if rows else 0)
        logs = logs or {}
        run.log(logs, rows[-1] if rows else None)
        if "train_runtime" in logs and "train_loss" in logs:
            self.phase = Phase.ENDING
            self.final_logs = dict(logs)
        elif self.phase is Phase.ACTING and not self.num_batches_done:
            self.acted = True
            self.logged_at = state.global_step
            run.asked.done("log", f"logged at step {state.global_step}")
            run.hold("log", only=("evaluate", "save"))
        run.leave()
        self.hook_done(unless=self.num_batches_done > 0)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Counts the batches of an evaluation or a prediction."""
        run = self._run or self.open_session(args, state)
        self.num_batches_done += 1
        if self.num_batches_done == 1:
            self._at(state)
            run.link.pulse.busy = "evaluating"
            self.num_batches = length_of(kwargs.get("eval_dataloader"))
        if self._prediction_step.active:
            values = {"batch": self.num_batches_done, "num_batches": self.num_batches}
            run.link.fire(self._prediction_step, values)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Says so; a save can still be asked for, and a stop."""
        run = self._seen(state) or self.open_session(args, state)
        self.evaluated(run, "evaluate", metrics)
        if self.phase is Phase.ACTING:
            self.acted = True
            run.asked.done("evaluate", self.told(state, metrics))
            run.hold("evaluate", only=("save",))
        run.leave()
        self.hook_done()

    def on_predict(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Says so."""
        run = self._seen(state) or self.open_session(args, state)
        self.evaluated(run, "predict", metrics)
        run.leave()
        self.hook_done()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says so; a stop can still be asked for."""
        run = self._seen(state)
        if run is None:
            return
        self.acted = True
        values = saved(args, state, run.since_left())
        folder = checkpoint_of(args, state)
        if folder is not None and args.process_index == 0:
            run_identity.record(folder, run.identity)
        run.emit("save", values, note=Lease())
        run.asked.done("save", str(values["path"]))
        if self.phase is Phase.ACTING:
            run.hold("save", only=())
        run.leave()

    def on_push_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says so."""
        run = self._seen(state) or self.open_session(args, state)
        run.emit("push_begin", {"repository": str(args.hub_model_id or "")})
        self.hook_done()

    def evaluated(self, run: BridgedRun, kind: str, metrics: Any) -> None:
        """Announces the metrics of an evaluation or a prediction."""
        self.num_batches_done = 0
        run.link.pulse.busy = ""
        values, handles = host_values("the Trainer", metrics or {}, run.metrics)
        run.emit(kind, {"metrics": values}, deferred=handles)

    def _at(self, state: Any) -> BridgedRun | None:
        """The open run, at the step at which their state stands."""
        run = self._run
        if run is not None:
            own = run.state.__dict__
            own["global_step"] = state.global_step
            own["epoch"] = state.epoch
        return run

    def _seen(self, state: Any, *, new_rows: int = 0) -> BridgedRun | None:
        """As `_at`, with the rest of the state as it stands."""
        run = self._at(state)
        if run is not None:
            mirror(state, run.state, new_rows=new_rows)
        return run
