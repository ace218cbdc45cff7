"""What has been measured since the last log: means, ready for the next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .metric_buffer import Number, read


class Mean:
    """A running mean. On the CPU of numbers; on another device of tensors that stay there."""

    __slots__ = ("count", "total")

    def __init__(self, total: Number = 0.0, count: int = 0) -> None:
        self.total = total
        self.count = count

    def add(self, value: Number) -> None:
        """Takes one more value; a tensor on a device is added there and not read."""
        if isinstance(value, Tensor):
            value = value.item() if value.is_cpu else value.detach()
        self.total = self.total + value
        self.count += 1

    def read(self) -> float:
        """The mean; waits for the device where the total is there."""
        return read(self.total) / self.count


class LogWindow:
    """The loss, and what `run.log` was given, since the last log."""

    def __init__(self) -> None:
        self._loss = Mean()
        self._means: dict[str, Mean] = {}
        self._latest: dict[str, Any] = {}
        self._run_loss = Mean()

    def add_loss(self, loss: Number | None) -> None:
        """Takes the loss of a step."""
        if loss is not None:
            self._loss.add(loss)

    def add(self, values: Mapping[str, Any]) -> None:
        """Takes values of `run.log`: numbers are averaged, of anything else the last one stays."""
        for name, value in values.items():
            if isinstance(value, bool | str) or value is None:
                self._latest[name] = value
            else:
                self._means.setdefault(name, Mean()).add(value)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to log."""
        return not (self._loss.count or self._means or self._latest)

    def take(self) -> dict[str, Any]:
        """What there is to log, and a new window."""
        values: dict[str, Any] = {}
        if self._loss.count:
            mean = values["loss"] = self._loss.read()
            self._run_loss.total = self._run_loss.total + mean * self._loss.count
            self._run_loss.count += self._loss.count
        values.update({name: mean.read() for name, mean in self._means.items()})
        values.update(self._latest)
        self._loss, self._means, self._latest = Mean(), {}, {}
        return values

    def mean_loss_of_run(self) -> float | None:
        """The mean loss over all steps of this attempt and those it continues."""
        count = self._run_loss.count + self._loss.count
        if not count:
            return None
        return (read(self._run_loss.total) + read(self._loss.total)) / count

    def state_dict(self) -> dict[str, Any]:
        """The window for a checkpoint; reads what is on the device."""
        return {
            "loss": [read(self._loss.total), self._loss.count],
            "run_loss": [read(self._run_loss.total), self._run_loss.count],
            "means": {name: [read(mean.total), mean.count] for name, mean in self._means.items()},
            "latest": dict(self._latest),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the window of a checkpoint."""
        self._loss = Mean(*state["loss"])
        self._run_loss = Mean(*state["run_loss"])
        self._means = {name: Mean(*pair) for name, pair in state["means"].items()}
        self._latest = dict(state["latest"])
