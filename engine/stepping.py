"""The loop's own part: epochs, accumulation, what a step is, where a resume goes on."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch

from ..bus import RunLink
from ..schemas import TrainingArguments
from ..schemas.errors import ArgumentError, DataError, StepbusError
from .data_order import DataOrder, move, num_batches, num_samples
from .front_end import FrontEnd
from .parts import Resumed
from .position import Position
from .rng import restore_rng
from .rounds import Rounds, Stop


class Plan(NamedTuple):
    """How long a run is."""

    max_steps: int
    num_epochs: float
    steps_per_epoch: int
    """0 where the loader cannot tell its length."""
    micro_batches: int
    """Micro-batches in an epoch; where the loader cannot tell, those of the whole run."""
    most_epochs: float = math.inf
    """Where the run goes by epochs, it has no more, though some were left early."""


def plan(args: TrainingArguments, loader: Iterable[Any]) -> Plan:
    """The length of a run over `loader`, by the reference's rules.

    Raises:
        DataError: the loader is empty.
        ArgumentError: it cannot tell its length, and max_steps is not set.
    """
    batches = num_batches(loader)
    if batches is None:
        if args.max_steps <= 0:
            raise ArgumentError(
                f"{type(loader).__name__} has no length: set max_steps, so that the run knows its "
                "end."
            )
        # As in the reference: as many epochs over the data as it takes.
        micro_batches = args.max_steps * args.gradient_accumulation_steps
        return Plan(args.max_steps, sys.maxsize, 0, micro_batches)
    if batches == 0:
        raise DataError(
            "The training data gave no batch: it is empty, or smaller than one batch with "
            "drop_last."
        )
    per_epoch = math.ceil(batches / args.gradient_accumulation_steps)
    if args.max_steps > 0:
        return Plan(args.max_steps, math.ceil(args.max_steps / per_epoch), per_epoch, batches)
    epochs = args.num_train_epochs
    return Plan(math.ceil(epochs * per_epoch), epochs, per_epoch, batches, math.ceil(epochs))


class Beginning(NamedTuple):
    """What the loop of a run begins with."""

    device: torch.device | None
    """Where the batches are moved; None where the loader does that."""
    order: DataOrder
    resumed: Resumed | None


class Stepping:
    """Yields micro-batches and keeps count; one for each run."""

    def __init__(
        self,
        args: TrainingArguments,
        link: RunLink,
        rounds: Rounds,
        position: Position,
        on_step_begin: Callable[[], None] | None,
        front_end: FrontEnd,
    ) -> None:
        self._front_end = front_end
        self._args = args
        self._link = link
        self._state = link.state
        self._control = link.control
        self._rounds = rounds
        self._position = position
        self._on_step_begin = on_step_begin
        self._begin = link.emitters["step_begin"]
        self._substep = link.emitters["substep_end"]
        self._ended = True
        self._exhausted = False
        self.plan = Plan(0, 0.0, 0, 1)
        self.num_samples = 0
        self.group_size = 1
        self.micro = 0
        self.data_wait_s = 0.0

    @property
    def accumulating(self) -> bool:
        """Whether the present micro-batch does not close its step."""
        return self.micro < self.group_size - 1

    @property
    def in_step(self) -> bool:
        """Whether a step has begun and not ended."""
        return not self._ended

    def end_step(self) -> None:
        """Notes that the optimizer has stepped.

        Raises:
            StepbusError: there is no open step, or micro-batches of it are still to come.
        """
        if self._ended:
            raise StepbusError(
                "end_step() was called twice for one step, or outside of run.steps()."
            )
        size = self.group_size
        if self.micro < size - 1:
            raise StepbusError(
                f"end_step() was called after micro-batch {self.micro + 1} of {self.group_size}: "
                "skip the optimizer while accumulating (`if run.accumulating: continue`)."
            )
        self._ended = True
        position = self._position
        position.step_in_epoch += 1
        done = position.micro_batches = position.micro_batches + size
        self._state.advance(position.epoch + done / self.plan.micro_batches)

    def batches(self, begin: Callable[[], Beginning], finish: Callable[[], None]) -> Iterator[Any]:
        """Micro-batches of all epochs, until the run is done or stopped.

        Args:
            begin: called when the first is asked for.
            finish: called when there are no more.
        """
        device, order, resumed = begin()
        position, state, rounds = self._position, self._link.state, self._rounds
        if position.epoch_ended:
            position.begin_next_epoch()
        most_steps, most_epochs = self._limits()
        while (
            rounds.stop is None
            and position.epoch < most_epochs
            and (state.global_step < most_steps or position.micro_batches)
        ):
            if self._front_end.rounds_epochs:
                state.epoch = self._epochs_done()
            self._link.reset_flags("stop_epoch")
            self._link.emit("epoch_begin")
            iterator = self._begin_epoch(order, resumed)
            resumed = None
            self._exhausted = position.left_early
            if not position.left_early:
                yield from self._epoch(iterator, device)
            # Workers of this epoch end before those of the next one start.
            del iterator
            position.epoch_ended = self._is_epoch_over()
            if position.epoch_ended:
                order.end_epoch()
            self._link.emit("epoch_end")
            rounds.hold("epoch_end")
            if rounds.stop is None:
                rounds.stop_epoch = None
                position.begin_next_epoch()
        finish()

    def _begin_epoch(self, order: DataOrder, resumed: Resumed | None) -> Iterator[Any]:
        epoch = self._position.epoch
        if resumed is None:
            return order.begin_epoch(epoch)
        order.load_state_dict(resumed.order)
        iterator = order.begin_epoch(epoch)
        if self._args.ignore_data_skip:
            self._position.micro_batches = self._position.step_in_epoch = 0
        elif self._position.micro_batches:
            self._skip(iterator, self._position.micro_batches)
            order.renew_ahead(resumed.order)
        restore_rng(resumed.rng)
        return iterator

    def _skip(self, iterator: Iterator[Any], count: int) -> None:
        """Draws the batches that were trained on before, so that what follows is the same."""
        pulse = self._link.pulse
        pulse.busy = "skipping data"
        for done in range(count):
            if next(iterator, _END) is _END:
                raise DataError(
                    f"The checkpoint was taken after {count} micro-batches of this epoch, and the "
                    f"data now has {done}: resume with the data of the first attempt, or with "
                    "ignore_data_skip=True."
                )
        pulse.busy, pulse.beat_s = "", self._link.bus.clock.monotonic()

    def _epoch(self, iterator: Iterator[Any], device: torch.device | None) -> Iterator[Any]:
        # One frame and locals: a step finds the caches cold, so each call that it spares tells.
        link, control, front_end, rounds = self._link, self._control, self._front_end, self._rounds
        state, begin, substep = link.state, self._begin, self._substep
        on_step_begin, counts_samples = self._on_step_begin, front_end.counts_samples
        most_steps, _ = self._limits()
        while state.global_step < most_steps:
            started = time.perf_counter()
            # Fewer than asked for at the end of the data.
            group = list(itertools.islice(iterator, self._args.gradient_accumulation_steps))
            self.data_wait_s = time.perf_counter() - started
            if not group:
                if not self._position.micro_batches:
                    why = self._front_end.data_ended(self._position.epoch)
                    if why:
                        rounds.stop = Stop(why, "the training data")
                        return
                    raise DataError(
                        "The training data gave no batch in this epoch: it is empty, or can be "
                        "gone through only once. Give a loader that starts anew each time."
                    )
                self._exhausted = True
                return
            size = self.group_size = len(group)
            self._ended = False
            if front_end.sees_groups:
                front_end.group_loaded(group)
            if on_step_begin is not None:
                on_step_begin()
            if control.touched:
                link.reset_flags("log", "evaluate", "save")
            if begin.active:
                link.fire(begin)
            for index in range(size):
                self.micro = index
                batch = group[index]
                group[index] = None
                if device is not None:
                    moved = move(batch, device)
                    if moved is batch and device.type == "cpu":
                        # Nor will others be elsewhere, and torch would say so.
                        device = None
                    batch = moved
                if counts_samples:
                    self.num_samples += num_samples(batch)
                yield batch
                if index < size - 1 and substep.active:
                    link.fire(substep)
            if not self._ended:
                raise StepbusError(
                    "run.end_step() was not called after the last micro-batch of step "
                    f"{state.global_step + 1}: call it once the optimizer has stepped."
                )
            if rounds.stop is not None or rounds.stop_epoch is not None:
                return

    def _limits(self) -> tuple[float, float]:
        """Steps and epochs after which the loop ends without being told to."""
        if self._front_end.ends_by_schedule:
            return math.inf, math.ceil(self.plan.num_epochs)
        return self.plan.max_steps, self.plan.most_epochs

    def _is_epoch_over(self) -> bool:
        """Whether the next epoch follows; False where a stop cut this one short."""
        all_steps = 0 < self.plan.steps_per_epoch <= self._position.step_in_epoch
        return self._exhausted or all_steps or self._rounds.stop_epoch is not None

    def _epochs_done(self) -> float:
        return self._position.epoch + self._position.micro_batches / self.plan.micro_batches


_END = object()
