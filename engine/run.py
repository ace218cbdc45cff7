"""`Run`: what every front end stands on. State, emitters, votes, checkpoints, and its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from ..bus import EventBus, Ledger, RunLink
from ..schemas import Artifact, TrainerControl, TrainerState, TrainingArguments, Vote
from ..schemas.errors import StepbusError
from . import run_identity
from .artifacts import LogsArtifacts
from .artifacts.draft import Draft, draft_of_text
from .callback_list import CallbackList
from .data_order import DataOrder
from .ending import AFTER_ERROR_S, Ending
from .environment import device_of, num_parameters
from .front_end import FrontEnd
from .hosting import HOSTED
from .metric_buffer import Number, Scalar, number_of
from .model_settings import model_settings
from .optimizer_hooks import OptimizerHooks
from .parts import RunParts, Stateful
from .rounds import Stop
from .run_identity import RunIdentity
from .saving import Saving
from .signals import StopSignals
from .step_closing import StepClosing
from .stepping import Beginning, plan
from .summary import RunSummary
from .watching import Watching
from .working import Working


class Run(LogsArtifacts):
    """One run, open for the length of a with block.

    Args:
        args: what the run obeys; validated.
        front_end: the ways of the loop that it serves.
        model: what is trained.
        optimizer: saved with it.
        lr_scheduler: saved with it.
        callbacks: who listens.
        bus: where events go.
        owns_bus: close the bus for good at the end.
        processing_class: handed to callbacks of Hugging Face's shape.
        signals: take Ctrl-C and SIGTERM as *save and stop*.
        state: the live state; a new one by default.
        identity: the run that this goes on with; a new run, or that of the checkpoint, by default.
        resume_from: the checkpoint to go on from; True means the last one.
    """

    def __init__(
        self,
        args: TrainingArguments,
        front_end: FrontEnd,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        lr_scheduler: Any,
        callbacks: CallbackList,
        bus: EventBus,
        owns_bus: bool = False,
        processing_class: Any = None,
        signals: StopSignals | None = None,
        state: TrainerState | None = None,
        identity: RunIdentity | None = None,
        resume_from: str | bool | None = None,
    ) -> None:
        self.args = args
        self.model = model
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.processing_class = processing_class
        self.state = state if state is not None else TrainerState()
        self.bus = bus
        self._owns_bus = owns_bus
        self._front_end = front_end
        self._callbacks = callbacks
        self._signals = signals
        self._resume_from = resume_from
        self._identity = identity
        self._parts = RunParts(model, optimizer, lr_scheduler, callbacks, front_end)
        self._resources = contextlib.ExitStack()
        self._batches: Iterator[Any] | None = None
        self._link: RunLink | None = None
        self._hosted = HOSTED.get()
        self._early_votes: list[Vote] = []
        self._train_loader: Any = None
        self._close_step: Callable[[Number | None, Number | None], None] = self._refuse_step

    # The with block

    def __enter__(self) -> Self:
        if self._link is not None:
            raise StepbusError(
                f"This {type(self).__name__} has been entered before: make a new one."
            )
        hosted = self._hosted = HOSTED.get()
        self._ending = Ending(
            self.args, self.state, self.bus, self._callbacks, self._signals, self._front_end, hosted
        )
        self._resources.callback(self._ending.close_bus, for_good=self._owns_bus)
        try:
            self._open()
        except BaseException:
            with self._resources:
                self._ending.drain.limit(AFTER_ERROR_S)
                self._ending.take_leave()
            raise
        return self

    def _open(self) -> None:
        args, parts = self.args, self._parts
        saving = self._saving = Saving(
            args,
            self.state,
            self.model,
            parts.state_dict,
            lambda: self.identity.to_json(),
            self._front_end,
        )
        checkpoint = saving.open_checkpoint(self._resume_from)
        if checkpoint is not None:
            parts.restore(checkpoint, self.state)
        output_dir = Path(args.output_dir)
        if self._identity is None:
            document = saving.run_document_of(checkpoint)
            self._identity = run_identity.identify(output_dir, document)
        self._callbacks.serve(self._identity.run_id)
        self._ending.start_bus()
        run_identity.record(output_dir, self._identity)
        link = self._link = self.bus.open_run(
            self.state,
            run_id=self._identity.run_id,
            attempt=self._identity.attempt,
            folder=output_dir,
            trains=self._front_end.trains,
        )
        while self._early_votes:
            self.bus.vote(self._early_votes.pop(0), run_id=link.run_id)
        link.context = self._gate_context
        self._callbacks.enter_gate(link)
        working = self._working = Working(
            args, link, saving, parts, self._front_end, self.optimizer, self._signals, self._hosted
        )
        working.acting.pushes_to = lambda: self._callbacks.pushes_to
        self._ending.opened(link, working, saving)
        if self._hosted is not None:
            self._hosted.opened(link)
            self._resources.callback(self._hosted.closed, link)
        if self._signals is not None:
            self._resources.enter_context(self._signals)
        if self.optimizer is not None and not self._front_end.announces_optimizer:
            self._resources.enter_context(OptimizerHooks(self.optimizer, link))
        watched = self._callbacks.watched
        if watched and self._front_end.trains:
            watching = Watching(self.model, self.state, working.histograms, watched)
            self._resources.enter_context(watching)
        self._announce(link)

    def _announce(self, link: RunLink) -> None:
        args, emitter = self.args, link.emitters["init_end"]
        values = {
            "run_name": args.run_name,
            "output_dir": str(args.output_dir),
            "logging_dir": args.logging_dir,
            "arguments": args.frozen_copy(),
            "model": type(self.model).__name__,
            "num_parameters": num_parameters(self.model),
            "model_settings": model_settings(self.model),
        }
        if self._front_end.announces_itself:
            link.emit("init_end", values)
        elif emitter.wanted:
            # Callbacks have been called when the Trainer was made.
            emitter.emit(values)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ending = self._ending
        with self._resources:
            try:
                if error is not None:
                    ending.fail(error)
                elif ending.unfinished:
                    left = Stop("the loop was left before it had ended", "the training loop")
                    rounds = self._working.rounds
                    rounds.stop = rounds.stop or left
                    ending.finish()
            except BaseException as late:
                ending.fail(late)
                raise
            finally:
                # Ends the loop's generator, and with it the workers of the data loader.
                close = getattr(self._batches, "close", None)
                if close is not None:
                    close()
                ending.take_leave()
        if error is None and self._signals is not None:
            self._signals.finish()

    def abandon(self) -> None:
        """Has the run end without a word when its block is left: another attempt follows."""
        self._ending.abandon()

    def let_go(self) -> None:
        """Has the parts of a run that is over let go of each other, so that its model is freed."""
        if self._link is not None:
            self._link.context = dict
        vars(self._front_end).pop("working", None)

    # What the loop calls

    def steps(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The micro-batches to train on, with tensors on the model's device.

        Raises:
            ArgumentError: the loader has no length and max_steps is not set.
            DataError: the loader is empty or ends too soon.
            StepbusError: called outside of the with block or a second time, or `end_step` was
                not called for a step.
        """
        self._open_link()
        if self._batches is not None:
            raise StepbusError("run.steps() was called before: a run has one loop.")
        self._batches = self._working.stepping.batches(
            lambda: self._begin(loader), self._ending.finish
        )
        return self._batches

    def _begin(self, loader: Iterable[Any]) -> Beginning:
        """The loop asks for its first batch."""
        link, working, parts = self._open_link(), self._working, self._parts
        stepping = working.stepping
        closing = self._close_step = StepClosing(link, working, self._signals, self._front_end)
        length = stepping.plan = plan(self.args, loader)
        self._train_loader = loader
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        order = parts.order = DataOrder(loader, seed, lends=self._front_end.lends_generator)
        self._resources.callback(order.release)
        resumed = parts.begin()
        self._ending.begin(length, self.model, resumed)
        if self._callbacks.wants_architecture:
            self._log_artifact(draft_of_text(Artifact.ARCHITECTURE, str(self.model)))
        if self.args.eval_on_start and resumed is None:
            working.acting.evaluate_at_start()
            working.rounds.hold("evaluate")
        closing.begin()
        # A loader with a device of its own puts its batches there.
        moves = getattr(loader, "device", None) is None
        device = device_of(self.model) if moves else None
        return Beginning(device, order, resumed)

    @property
    def accumulation(self) -> int:
        """Micro-batches in the present step: divide the loss by it."""
        return self._working.stepping.group_size

    @property
    def accumulating(self) -> bool:
        """True while further micro-batches of this step are to come: do not step the optimizer."""
        # As it says itself, in one call: it is asked at each micro-batch.
        stepping = self._working.stepping
        return stepping.micro < stepping.group_size - 1

    def end_step(self, loss: Scalar | None = None, *, grad_norm: Scalar | None = None) -> None:
        """Ends an optimizer step: announces it, counts the votes, and does what they ask for.

        Args:
            loss: what to log as the step's loss. A scalar on a device stays there; a copy is on its
                way to the host, which nothing waits for.
            grad_norm: norm of the gradients before clipping.

        Raises:
            StepbusError: the step has micro-batches left, or was ended before.
            CheckpointError: a checkpoint that was due cannot be written.
        """
        if isinstance(loss, torch.Tensor) and loss.is_cpu:
            loss = number_of(loss)
        self._parts.window.add_loss(loss)
        self._close_step(loss, grad_norm)

    def is_finite(self, loss: Scalar | None = None, *, grad_norm: Scalar | None = None) -> bool:
        """Whether the values of a step are neither NaN nor infinite; waits for the device.

        To be asked before `opt.step()`, so that the weights stay what they were. What is not
        finite is reported, and votes to stop unless `nan_policy` is report. The `Trainer` asks by
        itself where `nan_policy` is strict.

        Args:
            loss: the step's loss.
            grad_norm: norm of its gradients before clipping.
        """
        self._open_link()
        return self._working.watch.check(loss, grad_norm)

    def _refuse_step(self, loss: Number | None, grad_norm: Number | None) -> None:
        self._open_link()
        raise StepbusError("end_step() was called outside of run.steps().")

    def evaluation_steps(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of an evaluation, on the model's device; for use within `evaluate()`.

        Each is announced as `prediction_step`, and a stop that is voted for abandons the
        evaluation before the next one.
        """
        self._open_link()
        return self._working.evaluating.batches(loader)

    def log(self, values: Mapping[str, Any]) -> None:
        """Adds values to the next `Log`: numbers and device scalars are averaged until then.

        Scalars on a device are added up there, and nothing waits for them.

        Raises:
            ArgumentError: a tensor with more than one value.
            StepbusError: a tensor on a device, while a CUDA graph is captured there.
        """
        self._parts.window.add(values)

    def log_histogram(self, name: str, values: Any) -> None:
        """Counts how the values of a tensor are spread, for a `histogram` event after this step.

        They are counted on the device that they are on, and nothing waits for it; what is given
        under one name within a step is counted together. Where nobody listens nothing is done.

        Args:
            name: the event's `tag`, `weights/head` for one.
            values: a tensor of any shape, or what `torch.as_tensor` makes one of.

        Raises:
            ArgumentError: complex values, or no numbers.
            StepbusError: called outside of the with block, or while a CUDA graph is captured.
        """
        self._open_link()
        self._working.histograms.add(name, values)

    def _log_artifact(self, draft: Draft) -> None:
        self._open_link()
        self._working.artifacts.add(draft)

    @contextlib.contextmanager
    def capture_guard(self) -> Iterator[None]:
        """Lets a CUDA graph be captured within a with block, in CUDA's default mode.

        In that mode any other thread that asks CUDA something breaks the capture, as stepbus's own
        does while scalars are on their way. A capture with `capture_error_mode="thread_local"`
        needs no guard. Scalars are given to the run after the capture, never within.
        """
        with self._parts.window.metrics.undisturbed():
            yield

    def vote(self, action: str | Vote, *, reason: str = "", voter: str = "", **fields: Any) -> bool:
        """Casts a vote for this run, from any thread; False once it has ended.

        Cast before the with block is entered, it waits for it.

        Raises:
            ArgumentError: unknown action.
        """
        if self.bus.closed and self._link is not None:
            return False
        if self._link is None:
            # For this run and no other, though others may be open on the same bus.
            vote = action if isinstance(action, Vote) else Vote(action, reason=reason, **fields)
            voter = vote.voter or voter or "vote()"
            self._early_votes.append(vote.model_copy(update={"voter": voter}))
            return True
        run_id = self._link.run_id
        return self.bus.vote(action, reason=reason, voter=voter, run_id=run_id, **fields)

    def tracker(self, name: str) -> dict[str, str]:
        """Where a tracker of this run writes: the id, url and folder of its run, as far as it has
        them and they are known by now. It may learn them with its first events, and tells them
        within a moment where it works in another process.

        Args:
            name: as in `report_to`.

        Raises:
            ArgumentError: the run has no such tracker.
        """
        return self._callbacks.whereabouts(name)

    def attach(self, name: str, thing: Stateful) -> None:
        """Saves and restores anything with `state_dict`; on a resumed run it is restored here.

        Raises:
            ArgumentError: the name is taken, or the thing has no state_dict.
            CheckpointError: the checkpoint has no such state, or it does not fit.
            StepbusError: the loop of a resumed run has begun without it.
        """
        self._parts.attach(name, thing)

    # What it is

    @property
    def identity(self) -> RunIdentity:
        """Which run this is, and which start of it."""
        if self._identity is None:
            self._open_link()
        assert self._identity is not None
        return self._identity

    @property
    def run_id(self) -> str:
        """The run; the same over all its attempts."""
        return self._open_link().run_id

    @property
    def attempt(self) -> int:
        """Which start of the run this is."""
        self._open_link()
        return self.identity.attempt

    @property
    def summary(self) -> RunSummary | None:
        """How the run went, once the with block has been left."""
        return self._ending.summary if self._link is not None else None

    @property
    def control(self) -> TrainerControl:
        """The control that callbacks of Hugging Face's shape share."""
        return self._open_link().control

    @property
    def ledger(self) -> Ledger:
        """What the run, and each subscriber, cost so far; cheap, from any thread."""
        return self._ending.ledger if self._link is not None else self.bus.ledger

    def _gate_context(self) -> dict[str, Any]:
        train, evaluation = self.loaders
        return {
            "args": self.args,
            "state": self.state,
            "model": self.model,
            "processing_class": self.processing_class,
            "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler,
            "train_dataloader": train,
            "eval_dataloader": evaluation,
        }

    @property
    def loaders(self) -> tuple[Any, Any]:
        """Those that were trained and evaluated on last, as callbacks are given them."""
        return self._train_loader, self._working.evaluating.loader

    @property
    def link(self) -> RunLink:
        """What the open run holds of the bus."""
        return self._open_link()

    def _open_link(self) -> RunLink:
        if self._link is None:
            name = type(self).__name__
            raise StepbusError(f"Use the run inside of its block: `with {name}(...) as run:`.")
        return self._link
