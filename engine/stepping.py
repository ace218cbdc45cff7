"""The loop's own part: epochs, accumulation, what a step is, where a resume goes on."""

from __future__ import annotations

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


class Stepping:
    """Yields micro-batches and keeps count; one for each run."""

    def __init__(
        self,
        args: TrainingArguments,
        link: RunLink,
        rounds: Rounds,
        position: Position,
        on_step_begin: Callable[[], None],
        front_end: FrontEnd,
    ) -> None:
        self._front_end = front_end
        self._args = args
        self._link = link
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

    def end_step(self) -> None:
        """Notes that the optimizer has stepped.

        Raises:
            StepbusError: there is no open step, or micro-batches of it are still to come.
        """
        if self._ended:
            raise StepbusError(
                "end_step() was called twice for one step, or outside of run.steps()."
            )
        if self.micro < self.group_size - 1:
            raise StepbusError(
                f"end_step() was called after micro-batch {self.micro + 1} of {self.group_size}: "
                "skip the optimizer while accumulating (`if run.accumulating: continue`)."
            )
        self._ended = True
        position = self._position
        position.step_in_epoch += 1
        position.micro_batches += self.group_size
        self._link.state.advance(self._epochs_done())

    def batches(
        self,
        loader: Iterable[Any],
        device: torch.device | None,
        order: DataOrder,
        resumed: Resumed | None,
    ) -> Iterator[Any]:
        """Micro-batches of all epochs, until the run is done or stopped.

        They are moved to `device`; None where the loader does that.
        """
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
        state, rounds = self._link.state, self._rounds
        most_steps, _ = self._limits()
        while state.global_step < most_steps:
            group = self._load(iterator)
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
            yield from self._step(group, device)
            if rounds.stop is not None or rounds.stop_epoch is not None:
                return

    def _load(self, iterator: Iterator[Any]) -> list[Any]:
        """The micro-batches of one step; fewer than asked for at the end of the data."""
        started = time.perf_counter()
        group: list[Any] = []
        for _ in range(self._args.gradient_accumulation_steps):
            batch = next(iterator, _END)
            if batch is _END:
                break
            group.append(batch)
        self.data_wait_s = time.perf_counter() - started
        return group

    def _step(self, group: list[Any], device: torch.device | None) -> Iterator[Any]:
        self.group_size = len(group)
        self._ended = False
        self._front_end.group_loaded(group)
        self._on_step_begin()
        if not self._control.is_settled:
            self._link.reset_flags("log", "evaluate", "save")
        if self._begin.active:
            self._link.fire(self._begin)
        for index in range(len(group)):
            self.micro = index
            batch = group[index] if device is None else move(group[index], device)
            group[index] = None
            if self._front_end.counts_samples:
                self.num_samples += num_samples(batch)
            yield batch
            if index < self.group_size - 1 and self._substep.active:
                self._link.fire(self._substep)
        if not self._ended:
            raise StepbusError(
                "run.end_step() was not called after the last micro-batch of step "
                f"{self._link.state.global_step + 1}: call it once the optimizer has stepped."
            )

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
