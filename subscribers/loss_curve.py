"""The loss curve of a run as a picture."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any, ClassVar

from ..schemas import Log, RunFailed, TrainBegin, TrainEnd
from .reporter import Reporter

Points = dict[int, float]
"""Loss by step."""

MAX_POINTS = 4_000
"""Points drawn of a curve; of a longer one evenly spaced ones."""
SMOOTH_FROM = 200
"""A curve with so many points is drawn pale, with its running mean over it."""


class LossCurve(Reporter):
    """Draws the losses of training and evaluation against the steps, as a PNG.

    It is drawn at the end of the run, also of one that failed, and meanwhile at most once in
    `every_s` seconds. The file is replaced in one go, so that a viewer never sees half of it.

    Args:
        path: the file; `<output_dir>/loss_curve.png` where None.
        ylabel: what the vertical axis shows, with its unit.
        title: the title; that of the run where None.
        every_s: seconds between drawings while the run goes on; None draws at the end alone.

    Raises:
        DeliveryError: in `open()`: matplotlib is not installed.
    """

    package: ClassVar[str] = "matplotlib"
    extra: ClassVar[str] = "demo"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        ylabel: str = "loss",
        title: str | None = None,
        every_s: float | None = 60.0,
    ) -> None:
        self.path = Path(path) if path is not None else None
        """The file; known once a run has begun."""
        self._fixed = path is not None
        self._ylabel = ylabel
        self._title = title
        self._run_title = "Loss"
        self._every_s = every_s
        self._due_at = 0.0
        self._train: Points = {}
        self._eval: Points = {}

    def made_with(self) -> dict[str, Any]:
        """Its arguments."""
        return {
            "path": str(self.path) if self._fixed else None,
            "ylabel": self._ylabel,
            "title": self._title,
            "every_s": self._every_s,
        }

    def open(self) -> None:
        """Imports matplotlib, without its global state and without a window."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise self.not_installed(error) from error
        self._new_figure = Figure
        self._new_canvas = FigureCanvasAgg

    def on_train_begin(self, event: TrainBegin) -> None:
        """Starts a curve; that of a resumed run with what was logged before."""
        if event.rank != 0:
            return
        if not self._fixed:
            self.path = Path(event.output_dir) / "loss_curve.png"
        self._run_title = event.run_name or (f"Loss of {event.model}" if event.model else "Loss")
        self._train, self._eval = {}, {}
        for row in event.state.log_history:
            self._take(row.get("step", 0), row)
        self._due_at = time.monotonic() + (self._every_s or 0.0)

    def on_log(self, event: Log) -> None:
        """Takes in the losses."""
        if event.rank != 0:
            return
        self._take(event.step, event.logs)
        if self._every_s is not None and time.monotonic() >= self._due_at:
            self._draw()
            self._due_at = time.monotonic() + self._every_s

    def on_train_end(self, event: TrainEnd) -> None:
        """Draws the whole run."""
        self._draw()

    def on_run_failed(self, event: RunFailed) -> None:
        """Draws the run as far as it came."""
        self._draw()

    def _take(self, step: int, logs: dict[str, Any]) -> None:
        for name, points in (("loss", self._train), ("eval_loss", self._eval)):
            value = logs.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                points[step] = float(value)

    def _draw(self) -> None:
        if self.path is None or not (self._train or self._eval):
            return
        figure = self._new_figure(figsize=(8, 4.5), dpi=150, layout="constrained")
        canvas = self._new_canvas(figure)
        axes = figure.add_subplot()
        if self._train:
            _plot_train(axes, self._train)
        if self._eval:
            steps, values = _lists(self._eval)
            axes.plot(steps, values, "o-", color="#d1495b", markersize=4, label="evaluation")
        axes.set_title(self._title or self._run_title, loc="left", fontweight="bold")
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(self._ylabel)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_name(f".{self.path.name}.new")
        canvas.print_figure(str(aside), format="png")
        aside.replace(self.path)


def _plot_train(axes: Any, points: Points) -> None:
    steps, values = _lists(points)
    if len(steps) < SMOOTH_FROM:
        axes.plot(steps, values, "-", marker=".", color="#00798c", linewidth=1.5, label="training")
        return
    axes.plot(steps, values, color="#00798c", alpha=0.3, linewidth=0.8, label="training")
    axes.plot(steps, _running_mean(values), color="#00798c", linewidth=1.8, label="running mean")


def _lists(points: Points) -> tuple[list[int], list[float]]:
    ordered = sorted(points.items())
    ordered = ordered[:: 1 + len(ordered) // MAX_POINTS]
    return [step for step, _ in ordered], [value for _, value in ordered]


def _running_mean(values: list[float]) -> list[float]:
    """Each value's mean with its neighbours on both sides; what is not finite is passed over."""
    reach = max(3, len(values) // 60)
    totals, counts = [0.0], [0]
    for value in values:
        finite = math.isfinite(value)
        totals.append(totals[-1] + (value if finite else 0.0))
        counts.append(counts[-1] + finite)
    means = []
    for index in range(len(values)):
        near = min(reach, index, len(values) - 1 - index)
        start, end = index - near, index + near + 1
        count = counts[end] - counts[start]
        means.append((totals[end] - totals[start]) / count if count else math.nan)
    return means
