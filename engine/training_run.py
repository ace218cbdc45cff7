"""`TrainingRun`: state, emitters, votes and checkpoints around a training loop of your own."""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from ..bus import EventBus, LedgerRow, RunLink
from ..bus.control_channel import Outcome
from ..bus.diagnostics import get_logger
from ..schemas import TrainerControl, TrainerState, TrainingArguments, Vote
from ..schemas.errors import ArgumentError, StepbusError
from ..schemas.strategies import SaveStrategy, steps_of
from . import run_identity
from .attaching import Attached, Callback
from .checkpoint import Checkpoint, check_writable
from .data_order import DataOrder
from .environment import device_of, num_parameters, refuse_several_ranks
from .evaluating import Evaluate, Evaluating
from .log_window import LogWindow
from .metric_buffer import Number, metric_buffer_for
from .optimizer_hooks import OptimizerHooks
from .rng import capture_rng, preserved_rng, restore_rng
from .rounds import Rounds, Stop, Unavailable
from .saving import RUN, STATE, Saving, Stateful, load_part
from .signals import StopSignals
from .stepping import Stepping, plan
from .summary import RunSummary

log = get_logger()

AFTER_ERROR_S = 10.0
"""How long a run that failed waits for its subscribers."""


class TrainingRun:
    """One run around a loop of your own: events out, votes in, logs, evaluations, checkpoints.

        with TrainingRun(args, model=model, optimizer=opt, lr_scheduler=sched, evaluate=evaluate) as run:
            for batch in run.steps(loader):
                loss = model(**batch).loss
                (loss / run.accumulation).backward()
                if run.accumulating:
                    continue
                opt.step(); sched.step(); opt.zero_grad()
                run.end_step(loss=loss)

    The maths is yours: precision, clipping, what a loss is. `steps` owns epochs, `max_steps`,
    skipping on resume and leaving on a stop; `end_step` counts the votes, logs, calls
    `evaluate() -> dict` and saves.

    Args:
        args: what the run obeys.
        model: what is trained; its weights go into checkpoints.
        optimizer: saved with it; its steps are announced.
        lr_scheduler: saved with it.
        evaluate: returns metrics by name; called when an evaluation is due or voted for.
        callbacks: `TrainerCallback`s (on the training thread, in this order) and `Subscriber`s.
        bus: where events go; one of its own, at `run.bus`, by default. A bus that is not running
            is started and stopped by the run.
        processing_class: handed to callbacks of Hugging Face's shape.
        handle_signals: take Ctrl-C and SIGTERM as *save and stop*; on the main thread only.

    Raises:
        ArgumentError: contradictory arguments, an output folder that cannot be written, several
            ranks; before anything is written.
    """

    def __init__(
        self,
        args: TrainingArguments | None = None,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        lr_scheduler: Any = None,
        evaluate: Evaluate | None = None,
        callbacks: Iterable[Any] = (),
        bus: EventBus | None = None,
        processing_class: Any = None,
        handle_signals: bool = False,
    ) -> None:
        refuse_several_ranks()
        self.args = args if args is not None else TrainingArguments()
        self.args.validate()
        if self.args.eval_strategy != "no" and evaluate is None:
            raise ArgumentError(
                f"eval_strategy is {self.args.eval_strategy!s} and the run has no evaluate=: give a "
                "function that returns a dict of metrics, or eval_strategy='no'."
            )
        check_writable(self.args.output_dir)
        self.model = model
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.processing_class = processing_class
        self.state = TrainerState()
        self.summary: RunSummary | None = None
        self._owns_bus = bus is None
        self.bus = bus or EventBus(drain_timeout=self.args.drain_timeout_s)
        self._evaluate = evaluate
        self._handle_signals = handle_signals
        self._attached = Attached(self.bus, self.args)
        self._attached.defaults(callbacks)
        self._stateful: dict[str, Stateful] = {}
        self._window = LogWindow()
        self._metrics = metric_buffer_for(device_of(model))
        self._resources = contextlib.ExitStack()
        self._link: RunLink | None = None
        self._started_bus = False
        self._train_loader: Any = None
        self._checkpoint: Checkpoint | None = None
        self._begun_s: float | None = None
        self._ended = False
        self._bus_s = 0.0
        self._mark_s = 0.0
        self._learning_rate: float | None = None

    # The with block

    def __enter__(self) -> Self:
        if self._link is not None:
            raise StepbusError("This TrainingRun has been entered before: make a new one.")
        try:
            self._open()
        except BaseException:
            self._shut(AFTER_ERROR_S)
            raise
        return self

    def _open(self) -> None:
        saving = self._saving = Saving(
            self.args, self.state, self.model, self._parts, lambda: self._identity.to_json()
        )
        self._checkpoint = saving.open_checkpoint(self.args.resume_from_checkpoint)
        output_dir = Path(self.args.output_dir)
        resumed = self._checkpoint
        document = resumed.document(RUN) if resumed and RUN in resumed.documents else None
        self._identity = run_identity.identify(output_dir, document)
        if resumed is not None:
            self._adopt_state(TrainerState.from_json(resumed.document(STATE), str(resumed.folder)))
        if not self.bus.running:
            self.bus.start()
            self._started_bus = True
        run_identity.record(output_dir, self._identity)
        link = self._link = self.bus.open_run(
            self.state,
            run_id=self._identity.run_id,
            attempt=self._identity.attempt,
            folder=output_dir,
        )
        link.gate.guard = preserved_rng
        link.context = self._gate_context
        self._attached.enter_gate(link)
        self._rounds = Rounds(
            link,
            {"log": self._act_log, "evaluate": self._act_evaluate, "save": self._act_save},
        )
        self._evaluating = Evaluating(
            self.args, link, self.model, self._evaluate, self._rounds, self._emit_log
        )
        self._stepping = Stepping(self.args, link, self._rounds, lambda: device_of(self.model))
        self._stepping.on_step_begin = self._note_learning_rate
        if self._handle_signals:
            self._signals = self._resources.enter_context(StopSignals(self._vote_by_signal))
        if self.optimizer is not None:
            self._resources.enter_context(OptimizerHooks(self.optimizer, link))
        if resumed is not None:
            self._restore(resumed)
        link.emit("init_end")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        drain_s = self.args.drain_timeout_s
        try:
            if error is not None:
                drain_s = AFTER_ERROR_S
                self._fail(error)
            elif self._begun_s is not None and not self._ended:
                left = Stop("the loop was left before it had ended", "the training loop", False)
                self._rounds.stop = self._rounds.stop or left
                self._finish()
        except BaseException as late:
            self._fail(late)
            raise
        finally:
            if self._handle_signals and self._signals.received is not None:
                drain_s = min(drain_s, self.args.preemption_budget_s)
            self._shut(drain_s)
        if error is None and self._handle_signals:
            self._signals.finish()

    def _shut(self, drain_s: float) -> None:
        """Delivers what is left, ends what the run started, and sums up."""
        link = self._link
        if link is not None:
            link.pulse.beat_s = None
            self.bus.flush(drain_s)
            self._rounds.close(self.bus.close_run(link))
        if self._started_bus:
            self._started_bus = False
            started = time.monotonic()
            self.bus.stop(max(1.0, drain_s - (time.monotonic() - started)))
        self._attached_ledger = tuple(self.ledger)
        self._attached.detach()
        if self._owns_bus:
            self.bus.close()
        self._resources.close()
        gc.unfreeze()
        if self.summary is not None:
            self.summary = _with_ledger(self.summary, self._attached_ledger)

    # What the loop calls

    def steps(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The micro-batches to train on, with tensors on the model's device.

        Raises:
            DataError: the loader is empty or ends too soon.
            StepbusError: called outside of the with block or a second time, or `end_step` was
                not called for a step.
        """
        link = self._open_link()
        if self._begun_s is not None:
            raise StepbusError("run.steps() was called before: a run has one loop.")
        self._train_loader = loader
        order = DataOrder(loader, self.args.data_seed or self.args.seed)
        stepping = self._stepping
        stepping.plan = plan(self.args, loader)
        stepping.order = order
        restore = self._restore_data(order)
        self._begin()
        if self.args.eval_on_start and self._checkpoint is None:
            self._evaluate_now(by_vote=False)
        link.pulse.beat_s = self.bus.clock.monotonic()
        self._mark_s = time.perf_counter()
        yield from stepping.batches(loader, order, restore)
        self._finish()

    @property
    def accumulation(self) -> int:
        """Micro-batches in the present step: divide the loss by it."""
        return self._stepping.group_size

    @property
    def accumulating(self) -> bool:
        """True while further micro-batches of this step are to come: do not step the optimizer."""
        return self._stepping.accumulating

    def end_step(self, loss: Number | None = None, *, grad_norm: Number | None = None) -> None:
        """Ends an optimizer step: announces it, counts the votes, and does what they ask for.

        Args:
            loss: what to log as the step's loss; a device scalar is not read here.
            grad_norm: norm of the gradients before clipping.

        Raises:
            StepbusError: the step has micro-batches left, or was ended before.
            CheckpointError: a checkpoint that was due cannot be written.
        """
        entered = time.perf_counter()
        link = self._open_link()
        stepping = self._stepping
        stepping.end_step()
        self._window.add_loss(loss)
        self._grad_norm = grad_norm
        step_s = entered - self._mark_s
        emitter = link.emitters["step_end"]
        if emitter.active:
            (loss_value, norm_value), handles = self._metrics.push((loss, grad_norm))
            values = {
                "loss": loss_value,
                "grad_norm": norm_value,
                "learning_rate": self._learning_rate,
                "step_s": step_s,
                "data_wait_s": stepping.data_wait_s,
                "bus_s": self._bus_s,
            }
            link.fire(emitter, values, handles)
        link.votes.step = self.state.global_step
        link.pulse.durations_s.append(step_s)
        self._acting_s = 0.0
        self._rounds.hold("step_end")
        link.pulse.beat_s = self.bus.clock.monotonic()
        self._mark_s = time.perf_counter()
        self._bus_s = self._mark_s - entered - self._acting_s

    def evaluation_steps(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of an evaluation, on the model's device; for use within `evaluate()`.

        Each is announced as `prediction_step`, and a stop that is voted for abandons the
        evaluation before the next one.
        """
        self._open_link()
        return self._evaluating.batches(loader)

    def log(self, values: Mapping[str, Any]) -> None:
        """Adds values to the next `Log`: numbers and device scalars are averaged until then."""
        self._window.add(values)

    def vote(self, action: str | Vote, *, reason: str = "", voter: str = "", **fields: Any) -> bool:
        """Casts a vote for this run, from any thread; False once it has ended.

        Raises:
            ArgumentError: unknown action.
        """
        run_id = self._link.run_id if self._link is not None else None
        return self.bus.vote(action, reason=reason, voter=voter, run_id=run_id, **fields)

    def attach(self, name: str, thing: Stateful) -> None:
        """Saves and restores anything with `state_dict`; on a resumed run it is restored here.

        Raises:
            ArgumentError: the name is taken, or the thing has no state_dict.
            CheckpointError: the checkpoint has no such state, or it does not fit.
        """
        if name in self._stateful:
            raise ArgumentError(f"{name!r} is attached already: give another name.")
        if not hasattr(thing, "state_dict") or not hasattr(thing, "load_state_dict"):
            raise ArgumentError(f"{thing!r} cannot be attached: it has no state_dict and load_state_dict.")
        self._stateful[name] = thing
        if self._checkpoint is not None:
            load_part(name, thing, self._checkpoint.states["attached"], self._checkpoint.folder)

    def add_callback(self, callback: Any) -> Callback:
        """Adds a `TrainerCallback` or a `Subscriber`, as a class or an instance."""
        if self._link is not None:
            raise StepbusError("Callbacks are added before the with block is entered.")
        return self._attached.add(callback)

    @property
    def run_id(self) -> str:
        """The run; the same over all its attempts."""
        return self._identity.run_id

    @property
    def attempt(self) -> int:
        """Which start of the run this is."""
        return self._identity.attempt

    @property
    def control(self) -> TrainerControl:
        """The control that callbacks of Hugging Face's shape share."""
        return self._open_link().control

    @property
    def ledger(self) -> list[LedgerRow]:
        """What each subscriber cost so far."""
        rows = self.bus.ledger
        known = {row.subscriber for row in rows}
        gate = self._link.gate.ledger() if self._link is not None else []
        return rows + [row for row in gate if row.subscriber not in known]

    # Beginning and end

    def _begin(self) -> None:
        args, state, length = self.args, self.state, self._stepping.plan
        state.max_steps = length.max_steps
        state.num_train_epochs = int(-(-length.num_epochs // 1))
        state.logging_steps = steps_of(args.logging_steps, length.max_steps)
        state.eval_steps = steps_of(args.eval_steps or args.logging_steps, length.max_steps)
        state.save_steps = steps_of(args.save_steps, length.max_steps)
        state.train_batch_size = args.per_device_train_batch_size
        gc.collect()
        gc.freeze()
        self._begun_s = time.perf_counter()
        resumed = self._checkpoint
        self._open_link().emit(
            "train_begin",
            {
                "arguments": args.to_dict(),
                "run_name": args.run_name,
                "output_dir": str(args.output_dir),
                "model": type(self.model).__name__,
                "num_parameters": num_parameters(self.model),
                "max_steps": length.max_steps,
                "num_train_epochs": length.num_epochs,
                "steps_per_epoch": length.steps_per_epoch,
                "resumed_from": str(resumed.folder) if resumed is not None else None,
            },
        )

    def _finish(self) -> None:
        """The last merge point, the closing figures, `train_end`."""
        link, args = self._open_link(), self.args
        link.pulse.beat_s = None
        self.bus.flush(self._drain_s())
        self._rounds.hold("train_end", stops=False)
        self._emit_log(self._closing_figures())
        if args.load_best_model_at_end:
            self._saving.load_best()
        stop = self._rounds.stop
        stopped = stop is not None and not stop.scheduled
        self._ended = True
        metrics = dict(self._figures)
        values = {
            "status": "stopped" if stopped else "finished",
            "reason": stop.reason if stop and stopped else "",
            "stopped_by": stop.voters if stop and stopped else "",
            "metrics": metrics,
        }
        link.emit("train_end", values)
        self._saving.rotate()
        self._sum_up(str(values["status"]), str(values["reason"]), metrics)

    def _drain_s(self) -> float:
        if self._handle_signals and self._signals.received is not None:
            return self.args.preemption_budget_s / 2
        return self.args.drain_timeout_s

    def _closing_figures(self) -> dict[str, Any]:
        runtime = time.perf_counter() - (self._begun_s or time.perf_counter())
        samples, steps = self._stepping.num_samples, self.state.global_step
        start = self._checkpoint.step if self._checkpoint is not None else 0
        figures: dict[str, Any] = {} if self._window.empty else self._window_rest()
        figures |= {
            "train_runtime": runtime,
            "train_samples_per_second": samples / runtime if runtime else 0.0,
            "train_steps_per_second": (steps - start) / runtime if runtime else 0.0,
            "total_flos": self.state.total_flos,
        }
        mean = self._window.mean_loss_of_run()
        if mean is not None:
            figures["train_loss"] = mean
        figures["epoch"] = self.state.epoch
        self._figures = figures
        return figures

    def _window_rest(self) -> dict[str, Any]:
        """What `run.log` was given since the last log: it must not be lost."""
        rest = self._window.take()
        rest.pop("loss", None)
        return rest

    def _fail(self, error: BaseException) -> None:
        link = self._open_link()
        link.pulse.beat_s = None
        text = "".join(traceback.format_exception(error))
        values = {"error": type(error).__name__, "message": str(error), "traceback": text}
        link.emit("run_failed", values, note=error)
        self._sum_up("failed", f"{type(error).__name__}: {error}", {})

    def _sum_up(self, status: str, reason: str, metrics: dict[str, Any]) -> None:
        self.summary = RunSummary(
            status=status,
            reason=reason,
            global_step=self.state.global_step,
            runtime_s=time.perf_counter() - self._begun_s if self._begun_s else 0.0,
            metrics=metrics,
            output_dir=str(self.args.output_dir),
            checkpoints=tuple(str(path) for path in self._saving.checkpoints()),
            best_checkpoint=self.state.best_model_checkpoint,
            trackers=tuple(self._attached.trackers),
        )

    # Actions

    def _act_log(self, outcome: Outcome) -> str:
        with self._acting():
            logs = self._window.take()
            if self._grad_norm is not None:
                (norm,), _ = self._metrics.push((self._grad_norm,))
                logs["grad_norm"] = norm
            if self._learning_rate is not None:
                logs["learning_rate"] = self._learning_rate
            logs["epoch"] = self.state.epoch
            self._emit_log(logs)
        return f"logged at step {self.state.global_step}"

    def _act_evaluate(self, outcome: Outcome) -> str:
        if not self._evaluating.possible:
            raise Unavailable("the loop gave no evaluate= function")
        with self._acting():
            return self._evaluate_now(by_vote=not outcome.scheduled)

    def _evaluate_now(self, *, by_vote: bool) -> str:
        result = self._evaluating.run(by_vote=by_vote)
        if result is None:
            return "abandoned: a stop was voted for"
        metrics, improved = result
        if improved and self.args.save_strategy == SaveStrategy.BEST:
            vote = Vote("save", voter="save_strategy=best", step=self.state.global_step)
            self._open_link().votes.post(vote, scheduled=True)
        return f"evaluated: {', '.join(f'{k} {v:.4g}' for k, v in metrics.items() if k != 'epoch')}"

    def _act_save(self, outcome: Outcome) -> str:
        link = self._open_link()
        with self._acting():
            link.pulse.busy = "saving"
            try:
                values = self._saving.write()
            finally:
                link.pulse.busy = ""
                link.pulse.beat_s = self.bus.clock.monotonic()
            self._saving.rotate()
            link.emit("save", values, note=self._saving.lease_of(self._saving.folder))
        return str(values["path"])

    @contextlib.contextmanager
    def _acting(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._acting_s += time.perf_counter() - started

    def _emit_log(self, logs: dict[str, Any]) -> None:
        logs.setdefault("epoch", self.state.epoch)
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self._open_link().emit("log", {"logs": logs})

    def _note_learning_rate(self) -> None:
        if self.optimizer is not None:
            rate = self.optimizer.param_groups[0]["lr"]
            self._learning_rate = float(rate) if isinstance(rate, torch.Tensor) else rate

    def _vote_by_signal(self, name: str) -> None:
        reason = f"{name} was received"
        self.vote("save", voter=name, reason=reason)
        self.vote("stop", voter=name, reason=reason, critical=True)

    # Checkpoints

    def _parts(self) -> dict[str, object]:
        parts: dict[str, object] = {
            "run": {
                "position": self._stepping.position.state_dict(),
                "window": self._window.state_dict(),
                "callbacks": self._attached.state_dict(),
                "order": self._stepping.order.state_dict() if self._stepping.order else None,
            },
            "rng": capture_rng(),
            "attached": {name: thing.state_dict() for name, thing in self._stateful.items()},
        }
        if self.optimizer is not None:
            parts["optimizer"] = self.optimizer.state_dict()
        if self.lr_scheduler is not None:
            parts["lr_scheduler"] = self.lr_scheduler.state_dict()
        return parts

    def _adopt_state(self, saved: TrainerState) -> None:
        for name, value in vars(saved).items():
            if not name.startswith("_"):
                setattr(self.state, name, value)
        best = self.state.best_model_checkpoint
        if best is not None and not Path(best).is_dir():
            self.state.best_model_checkpoint = None

    def _restore(self, checkpoint: Checkpoint) -> None:
        checkpoint.load_weights(self.model)
        states, folder = checkpoint.states, checkpoint.folder
        if self.optimizer is not None:
            load_part("optimizer", self.optimizer, states, folder)
        if self.lr_scheduler is not None:
            load_part("lr_scheduler", self.lr_scheduler, states, folder)
        run = states["run"]
        self._window.load_state_dict(run["window"])
        self._stepping.position.load_state_dict(run["position"])
        self._attached.load_state_dict(run["callbacks"])

    def _restore_data(self, order: DataOrder) -> Callable[[], None]:
        checkpoint = self._checkpoint
        if checkpoint is None:
            return lambda: None
        saved_order = checkpoint.states["run"]["order"]
        if saved_order is not None:
            order.load_state_dict(saved_order)
        return lambda: restore_rng(checkpoint.states["rng"])

    def _gate_context(self) -> dict[str, Any]:
        return {
            "args": self.args,
            "state": self.state,
            "model": self.model,
            "processing_class": self.processing_class,
            "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler,
            "train_dataloader": self._train_loader,
            "eval_dataloader": None,
        }

    def _open_link(self) -> RunLink:
        if self._link is None:
            raise StepbusError("Use the run inside of its with block: `with TrainingRun(...) as run:`.")
        return self._link

    _grad_norm: Number | None = None
    _acting_s = 0.0
    _figures: Mapping[str, Any] = {}
    _attached_ledger: Sequence[LedgerRow] = ()


def _with_ledger(summary: RunSummary, ledger: Sequence[LedgerRow]) -> RunSummary:
    return RunSummary(**{**vars(summary), "ledger": tuple(ledger)})
