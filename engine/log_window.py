"""What has been measured since the last log: means, ready for the next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .metric_buffer import DeferredScalar, MetricBuffer, Number, Scalar, number_of
from .scalars.mean import Mean, Total


class LogWindow:
    """The loss, and what `run.log` was given, since the last log.

    What is on a device is added up there; nothing is read but for a checkpoint and at the end.
    """

    def __init__(self) -> None:
        self.metrics = MetricBuffer()
        """The run's; what leaves the window goes through it."""
        self._loss = Mean()
        self._means: dict[str, Mean] = {}
        self._latest: dict[str, Any] = {}
        self._run_loss = Total()
        self._run_steps = 0

    def add_loss(self, loss: Scalar | None) -> None:
        """Takes the loss of a step."""
        if loss is not None:
            self._loss.add(loss, self.metrics)

    def add(self, values: Mapping[str, Any]) -> None:
        """Takes values of `run.log`: numbers are averaged, of anything else the last one stays.

        Raises:
            ArgumentError: a tensor with more than one value.
            StepbusError: a tensor on a device, while a CUDA graph is captured there.
        """
        for name, value in values.items():
            if isinstance(value, bool | str) or value is None:
                self._latest[name] = value
            else:
                self._means.setdefault(name, Mean()).add(value, self.metrics)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to log."""
        return not (self._loss_count or self._means or self._latest)

    def take(self, step: Mapping[str, Number | None] | None = None) -> dict[str, Any]:
        """What there is to log, and a new window; waits for nothing.

        What is on a device comes as a handle.

        Args:
            step: what stands after the loss: figures of the last step. None is left out.
        """
        step = {name: value for name, value in (step or {}).items() if value is not None}
        if not (self._means or self._latest):
            values = self._taken_as_it_is(step)
            if values is not None:
                return values
        count, means, latest = self._loss_count, self._means, self._latest
        on_device = [mean.on_device for mean in means.values()]
        (loss, *others), _ = self.metrics.push([self._loss_total(), *step.values(), *on_device])
        values = {}
        if count:
            assert loss is not None
            values["loss"] = loss / count if isinstance(loss, float) else _divided(loss, count)
            self._run_loss.add(loss)
            self._run_steps += count
        values.update(zip(step, others, strict=False))
        of_means = zip(means.items(), others[len(step) :], strict=True)
        values.update({name: mean.of(total) for (name, mean), total in of_means})
        values.update(latest)
        self._means, self._latest = {}, {}
        self._begin_anew()
        return values

    def _taken_as_it_is(self, step: dict[str, Number | None]) -> dict[str, Any] | None:
        """As `take`, where there is nothing but the loss and figures of the step, and all of them
        are numbers of the host; None where they are not.

        On its own, since a run that logs each step does this at each step.
        """
        total = self._loss_total()
        if type(total) is not float:
            if not isinstance(total, torch.Tensor) or not total.is_cpu:
                return None
            total = number_of(total)
        for number in step.values():
            if type(number) is not float:
                return None
        count = self._loss_count
        if not count:
            values: dict[str, Any] = step
        else:
            values = {"loss": total / count, **step}
            self._run_loss.add(total)
            self._run_steps += count
        self._begin_anew()
        return values

    def mean_loss_of_run(self) -> float | None:
        """The mean loss over all steps of this attempt and those it continues; may wait."""
        count = self._run_steps + self._loss_count
        return (self._read_run_loss() + self._read_loss()) / count if count else None

    def state_dict(self) -> dict[str, Any]:
        """The window for a checkpoint; waits for what is on the device."""
        numbers, _ = self.metrics.push([mean.on_device for mean in self._means.values()])
        totals = self.metrics.waits.fill(dict(zip(self._means, numbers, strict=True)))
        return {
            "loss": [self._read_loss(), self._loss_count],
            "run_loss": [self._read_run_loss(), self._run_steps],
            "means": {
                name: [mean.on_host + (totals[name] or 0.0), mean.count]
                for name, mean in self._means.items()
            },
            "latest": dict(self._latest),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the window of a checkpoint."""
        self._load_loss(*state["loss"])
        total, self._run_steps = state["run_loss"]
        self._run_loss = Total(total)
        self._means = {name: Mean(*pair) for name, pair in state["means"].items()}
        self._latest = dict(state["latest"])

    # How losses are added up, for a subclass to do in another way

    @property
    def _loss_count(self) -> int:
        """Steps whose losses are in the window."""
        return self._loss.count

    def _loss_total(self) -> Number:
        """The sum of the losses in the window."""
        loss = self._loss
        if loss.on_device is None:
            return loss.on_host
        return loss.on_device + loss.on_host if loss.on_host else loss.on_device

    def _load_loss(self, total: float, count: int) -> None:
        """Goes on with a sum of losses."""
        self._loss = Mean(total, count)

    def _begin_anew(self) -> None:
        """Forgets the losses."""
        self._loss = Mean()

    def _read_loss(self) -> float:
        (total,), _ = self.metrics.push([self._loss_total()])
        number = self.metrics.waits.fill({"loss": total})["loss"]
        return float("nan") if number is None else float(number)

    def _read_run_loss(self) -> float:
        with self.metrics.waits.counted(self._run_loss.num_pending):
            return self._run_loss.read()


def _divided(total: DeferredScalar, count: int) -> DeferredScalar:
    return total.then(lambda number: number / count)
