"""The loop's own part: epochs, accumulation, what a step is, where a resume goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch

from ..bus import RunLink
from ..schemas import TrainingArguments
from ..schemas.errors import ArgumentError, DataError, StepbusError
from .data_order import DataOrder, move, num_batches
from .rounds import Rounds


class Plan(NamedTuple):
    """How long a run is."""

    max_steps: int
    num_epochs: float
    steps_per_epoch: int
    """0 where the loader cannot tell its length."""


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
                f"{type(loader).__name__} has no length: set max_steps, so that the run knows its end."
            )
        return Plan(args.max_steps, 1.0, 0)
    if batches == 0:
        raise DataError(
            "The training data gave no batch: it is empty, or smaller than one batch with drop_last."
        )
    per_epoch = math.ceil(batches / args.gradient_accumulation_steps)
    if args.max_steps > 0:
        return Plan(args.max_steps, math.ceil(args.max_steps / per_epoch), per_epoch)
    return Plan(math.ceil(args.num_train_epochs * per_epoch), args.num_train_epochs, per_epoch)


class Position:
    """Where in the data a run is; part of every checkpoint."""

    def __init__(self) -> None:
        self.epoch = 0
        self.step_in_epoch = 0
        self.micro_batches = 0
        self.epoch_ended = False

    def state_dict(self) -> dict[str, Any]:
        """The position for a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        for name in vars(self):
            setattr(self, name, state[name])


class Stepping:
    """Yields micro-batches and keeps count; one for each run."""

    def __init__(
        self,
        args: TrainingArguments,
        link: RunLink,
        rounds: Rounds,
        device: Callable[[], torch.device],
    ) -> None:
        self._args = args
        self._link = link
        self._rounds = rounds
        self._device = device
        self.position = Position()
        self.order: DataOrder | None = None
        self.plan = Plan(0, 0.0, 0)
        self.num_samples = 0
        self.group_size = 1
        self.micro = 0
        self.data_wait_s = 0.0
        self.on_step_begin: Callable[[], None] = lambda: None
        self._ended = True
        self._emitters = link.emitters

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
            raise StepbusError("end_step() was called twice for one step, or outside of run.steps().")
        if self.accumulating:
            raise StepbusError(
                f"end_step() was called after micro-batch {self.micro + 1} of {self.group_size}: skip "
                "the optimizer while accumulating (`if run.accumulating: continue`)."
            )
        self._ended = True
        position, state = self.position, self._link.state
        position.step_in_epoch += 1
        position.micro_batches += self.group_size
        state.global_step += 1
        per_epoch = self.plan.steps_per_epoch or self.plan.max_steps
        state.epoch = position.epoch + position.step_in_epoch / per_epoch

    def batches(self, loader: Iterable[Any], order: DataOrder, restore_rng: Callable[[], None]) -> Iterator[Any]:
        """Micro-batches of all epochs, on the model's device, until the run is done or stopped."""
        position, state = self.position, self._link.state
        skip, resumed = position.micro_batches, position.micro_batches > 0 or state.global_step > 0
        if position.epoch_ended:
            position.epoch, position.step_in_epoch, position.micro_batches = position.epoch + 1, 0, 0
            position.epoch_ended, skip = False, 0
        while state.global_step < self.plan.max_steps or skip:
            iterator = order.begin_epoch(position.epoch)
            state.epoch = position.epoch + position.step_in_epoch / (
                self.plan.steps_per_epoch or self.plan.max_steps
            )
            self._link.emit("epoch_begin")
            if skip and not self._args.ignore_data_skip:
                self._skip(iterator, skip)
            skip = 0
            if resumed:
                restore_rng()
                resumed = False
            yield from self._epoch(iterator)
            self._link.emit("epoch_end")
            position.epoch_ended = True
            self._rounds.hold("epoch_end")
            if self._rounds.stop is not None:
                return
            self._rounds.stop_epoch = None
            position.epoch, position.step_in_epoch, position.micro_batches = position.epoch + 1, 0, 0
            position.epoch_ended = False

    def _skip(self, iterator: Iterator[Any], count: int) -> None:
        """Draws the batches that were trained on before, so that what follows is the same."""
        for done in range(count):
            if next(iterator, _END) is _END:
                raise DataError(
                    f"The checkpoint was taken after {count} micro-batches of this epoch, and the data "
                    f"now has {done}: resume with the data of the first attempt, or with "
                    "ignore_data_skip=True."
                )

    def _epoch(self, iterator: Iterator[Any]) -> Iterator[Any]:
        state = self._link.state
        found = self.position.micro_batches > 0
        while state.global_step < self.plan.max_steps:
            group = self._load(iterator)
            if not group:
                if not found:
                    raise DataError("The training data gave no batch in this epoch: it is exhausted.")
                return
            found = True
            yield from self._step(group)
            if self._rounds.stop is not None or self._rounds.stop_epoch is not None:
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

    def _step(self, group: list[Any]) -> Iterator[Any]:
        self.group_size = len(group)
        self.micro = 0
        self._ended = False
        self.on_step_begin()
        begin = self._emitters["step_begin"]
        if begin.active:
            self._link.fire(begin)
        device = self._device()
        for index in range(len(group)):
            self.micro = index
            batch = move(group[index], device)
            group[index] = None
            self.num_samples += _num_samples(batch)
            yield batch
            if index < self.group_size - 1:
                substep = self._emitters["substep_end"]
                if substep.active:
                    self._link.fire(substep)
        if not self._ended:
            raise StepbusError(
                f"run.end_step() was not called after the last micro-batch of step {self._link.state.global_step + 1}: "
                "call it once the optimizer has stepped."
            )


_END = object()


def _num_samples(batch: Any) -> int:
    if isinstance(batch, torch.Tensor):
        return batch.shape[0] if batch.ndim else 1
    if isinstance(batch, dict):
        return next((_num_samples(value) for value in batch.values()), 0)
    if isinstance(batch, list | tuple):
        return _num_samples(batch[0]) if batch else 0
    return 1
