"""The figures of a progress display: rate, time left, share of waiting for data."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from ..schemas import Evaluate, Log, Predict, PredictionStep, Save, StepEnd
from .log_line import clock_text, shown_value

WINDOW_S = 10.0
"""Rate and data-bound share are those of so many seconds, those of evaluations left out."""
DATA_BOUND_FROM = 0.05
"""A smaller share of waiting for data is not shown."""


class Sample(NamedTuple):
    """What is kept of a `StepEnd`."""

    monotonic: float
    step: int
    step_s: float
    data_wait_s: float


class Figures:
    """Where a run stands, gathered from some of its events.

    Steps may be left out: the rate comes from their numbers and the clock, the data-bound share
    from those that were seen.
    """

    def __init__(self, step: int = 0, total: int = 0, began: float = 0.0) -> None:
        self.step = step
        self.total = total
        """Steps that the run has; 0 where that is unknown."""
        self.began = began
        self.loss: float | None = None
        self.batch = 0
        """Batches of the running evaluation that are done; 0 while none runs."""
        self.num_batches: int | None = None
        self.note = ""
        """What is off with a subscriber; empty while nothing is."""
        self.over = False
        """The run has ended: nothing is left."""
        self._first: Sample | None = None
        self._last: Sample | None = None
        self._recent: deque[Sample] = deque()

    def step_end(self, event: StepEnd) -> None:
        """Takes in a step."""
        sample = Sample(event.monotonic, event.step, event.step_s, event.data_wait_s)
        self._first = self._first or sample
        self._last = sample
        self._recent.append(sample)
        while self._recent[0].monotonic < sample.monotonic - WINDOW_S:
            self._recent.popleft()
        self.step = event.step
        self.batch = 0
        if event.loss is not None:
            self.loss = event.loss

    def log(self, event: Log) -> None:
        """Takes in logged values: the loss, where the steps have none."""
        self.step = event.step
        loss = event.logs.get("loss")
        if isinstance(loss, float):
            self.loss = loss

    def prediction_step(self, event: PredictionStep) -> None:
        """Takes in a batch of an evaluation."""
        self.step, self.batch, self.num_batches = event.step, event.batch, event.num_batches

    def paused(self, event: Evaluate | Predict | Save) -> None:
        """The steps stood still for an evaluation or a save, which is no part of their rate."""
        self.batch = 0
        self._recent.clear()

    @property
    def rate(self) -> float | None:
        """Steps a second, lately; None where that is not known yet."""
        recent = self._recent
        if len(recent) > 1:
            return _rate(recent[0], recent[-1])
        return _rate(self._first, self._last)

    @property
    def left_s(self) -> float | None:
        """Seconds to the last step at the run's mean pace, its evaluations included."""
        pace = _rate(self._first, self._last)
        if not pace or not self.total:
            return None
        return max(0, self.total - self.step) / pace

    @property
    def data_share(self) -> float:
        """The part of the steps' time that was spent waiting for the data loader."""
        spent = sum(sample.step_s for sample in self._recent)
        return sum(sample.data_wait_s for sample in self._recent) / spent if spent else 0.0

    @property
    def done(self) -> float:
        """How much of the run is done, 0 to 1."""
        return min(1.0, self.step / self.total) if self.total else 0.0

    @property
    def count(self) -> str:
        """The steps done, and of how many."""
        return f"{self.step:,}/{self.total:,}" if self.total else f"{self.step:,} steps"

    @property
    def evaluation(self) -> str:
        """The batches of the evaluation done, and of how many; empty while none runs."""
        if not self.batch:
            return ""
        return f"{self.batch:,}/{self.num_batches:,}" if self.num_batches else f"{self.batch:,}"

    def details(self) -> list[str]:
        """Loss, rate, time left and what slows the run down, as far as they are known."""
        parts = []
        if self.loss is not None:
            parts.append(f"loss {shown_value(self.loss)}")
        if (rate := self.rate) is not None:
            parts.append(f"{shown_value(float(rate))} steps/s")
        if not self.over and (left := self.left_s) is not None:
            parts.append(f"{clock_text(left)} left")
        if (share := self.data_share) >= DATA_BOUND_FROM:
            parts.append(f"data-bound {share:.0%}".replace("%", " %"))
        return parts


def _rate(first: Sample | None, last: Sample | None) -> float | None:
    if first is None or last is None or last.monotonic <= first.monotonic:
        return None
    return (last.step - first.step) / (last.monotonic - first.monotonic)
