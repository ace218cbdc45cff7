"""The figures as pictures, a file for each part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stepbus.cli.bench.figures import Figure

from .part import Part

OURS, THEIRS, PALE = "#0b6e4f", "#8a8f98", "#d5d8dc"
RED = "#b3261e"
HANDLERS = (0, 1, 8, 32)
SUBSCRIBERS = (1, 4, 16)
TICKS = (0.5, 1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100)


def draw(folder: Path, parts: Sequence[Part]) -> dict[str, Path]:
    """Draws what there is to draw; the paths by the part's name. None without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        return {}
    mpl.use("Agg")
    from matplotlib import pyplot

    drawn = {}
    for part in parts:
        drawing = DRAWINGS.get(part.name)
        if drawing is None or not part.figures:
            continue
        picture = drawing(pyplot, part.figures)
        if picture is None:
            continue
        path = folder / f"{part.name}.png"
        picture.savefig(path, dpi=140, bbox_inches="tight")
        pyplot.close(picture)
        drawn[part.name] = path
    return drawn


def _color(subject: str) -> str:
    if subject.endswith("once more"):
        return PALE
    return OURS if subject.startswith("stepbus") else THEIRS


def _emit(pyplot: Any, figures: Sequence[Figure]) -> Any:
    picture, axes = pyplot.subplots(figsize=(7, 4))
    values = {
        (figure.subject, int(figure.case.split()[0])): max(figure.value, 1e-3)
        for figure in figures
        if figure.case.endswith(("handler", "handlers"))
    }
    subjects = list(dict.fromkeys(subject for subject, _ in values))
    ends = []
    for subject in subjects:
        line = [values[subject, count] for count in HANDLERS]
        axes.plot(range(len(HANDLERS)), line, marker="o", color=_color(subject), linewidth=2)
        ends.append((line[-1], subject))
    _label_ends(axes, len(HANDLERS) - 1, ends)
    axes.set_yscale("log")
    axes.set_xticks(range(len(HANDLERS)), [str(count) for count in HANDLERS])
    axes.set_xlim(-0.2, len(HANDLERS) - 1 + 1.5)
    axes.set_xlabel("handlers that do nothing")
    axes.set_ylabel("us an emit (log)")
    axes.set_title("One emit, as the training thread sees it", loc="left")
    _plain(axes)
    return picture


def _throughput(pyplot: Any, figures: Sequence[Figure]) -> Any:
    picture, axes = pyplot.subplots(figsize=(7, 4))
    values = {
        (figure.subject, int(figure.case.split()[0])): figure.value
        for figure in figures
        if figure.measure == "events/s"
    }
    subjects = list(dict.fromkeys(subject for subject, _ in values))
    ends = []
    for subject in subjects:
        line = [values[subject, count] for count in SUBSCRIBERS]
        axes.plot(range(len(SUBSCRIBERS)), line, marker="o", color=_color(subject), linewidth=2)
        ends.append((line[-1], subject))
    _label_ends(axes, len(SUBSCRIBERS) - 1, ends)
    axes.set_yscale("log")
    axes.set_xticks(range(len(SUBSCRIBERS)), [str(count) for count in SUBSCRIBERS])
    axes.set_xlim(-0.2, len(SUBSCRIBERS) - 1 + 1.1)
    axes.set_xlabel("subscribers")
    axes.set_ylabel("events a second (log)")
    axes.set_title("Events from emit to the last handler's end", loc="left")
    _plain(axes)
    return picture


def _label_ends(axes: Any, at: float, ends: Sequence[tuple[float, str]]) -> None:
    """Names the lines at their right ends, pushed apart where they would overlap."""
    lowest = 0.0
    for value, subject in sorted(ends):
        height = max(value, lowest)
        axes.annotate(
            subject, (at, value), (at + 0.12, height), color=_color(subject), va="center", size=9
        )
        lowest = height * 1.7


def _ratios(title: str, base: str = "raw") -> Callable[[Any, Sequence[Figure]], Any]:
    """Bars of the median, with the p99 as a mark, a panel for each case."""

    def drawing(pyplot: Any, figures: Sequence[Figure]) -> Any:
        p50 = [figure for figure in figures if figure.measure == "p50"]
        p99 = {(f.case, f.subject): f.value for f in figures if f.measure == "p99"}
        mean = {(f.case, f.subject): f.value for f in figures if f.measure == "mean"}
        most = max(1.3, *p99.values(), *(figure.value for figure in p50))
        least = min(1.0, *(figure.value for figure in p50))
        cases = list(dict.fromkeys(figure.case for figure in p50))
        rows = [[figure for figure in p50 if figure.case == case] for case in cases]
        heights = [len(row) + 1.6 for row in rows]
        picture, panels = pyplot.subplots(
            len(cases),
            1,
            figsize=(9, 0.27 * sum(heights) + 0.6),
            height_ratios=heights,
            sharex=True,
            squeeze=False,
        )
        for axes, case, row in zip(panels[:, 0], cases, rows, strict=True):
            row = row[::-1]
            names = [figure.subject for figure in row]
            axes.barh(
                names,
                [figure.value for figure in row],
                color=[_color(name) for name in names],
                height=0.62,
            )
            axes.plot([mean[case, n] for n in names], names, "D", color="black", markersize=4)
            axes.plot([p99[case, n] for n in names], names, "|", color=RED, markersize=11, mew=2)
            for figure in row:
                key = case, figure.subject
                axes.annotate(
                    f"{figure.value:.2f}",
                    (max(figure.value, mean[key], p99[key]), figure.subject),
                    (6, 0),
                    textcoords="offset points",
                    va="center",
                    size=7.5,
                )
            axes.axvline(1.0, color="black", linewidth=0.8)
            axes.set_xscale("log")
            axes.set_title(case, loc="left", size=10)
            axes.tick_params(axis="y", labelsize=8)
            axes.set_xticks([tick for tick in TICKS if least <= tick <= most])
            axes.set_xlim(least * 0.9, most * 1.25)
            axes.xaxis.set_major_formatter(pyplot.FuncFormatter(lambda value, _: f"{value:g} x"))
            axes.xaxis.set_minor_formatter(pyplot.NullFormatter())
            _plain(axes)
        panels[-1, 0].set_xlabel(
            f"a step, to the {base} one beside it (log): bar p50, diamond mean, red mark p99"
        )
        picture.suptitle(title, x=0.01, ha="left", weight="bold")
        picture.tight_layout(rect=(0, 0, 1, 0.985))
        return picture

    return drawing


def _growth(pyplot: Any, figures: Sequence[Figure]) -> Any:
    p50 = [figure for figure in figures if figure.measure == "p50"][::-1]
    picture, axes = pyplot.subplots(figsize=(7, 0.5 * len(p50) + 1.2))
    names = [f"{figure.case},\n{figure.subject}" for figure in p50]
    for name, figure in zip(names, p50, strict=True):
        low, high = figure.interval or (figure.value, figure.value)
        color = THEIRS if figure.subject.endswith("once more") else OURS
        axes.plot([low, high], [name, name], color=color, linewidth=3, solid_capstyle="butt")
        axes.plot([figure.value], [name], "o", color=color)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.axvline(1.05, color=RED, linewidth=0.8, linestyle=":")
    axes.annotate("budget", (1.05, len(names) - 0.6), color=RED, size=8, ha="center", va="bottom")
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("p50 of a step, to that of one at step 1,000")
    axes.set_title("A step late in a run, to one early in it", loc="left", pad=16)
    _plain(axes)
    return picture


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


DRAWINGS: dict[str, Callable[[Any, Sequence[Figure]], Any]] = {
    "emit": _emit,
    "engines": _ratios("Engines"),
    "bridges": _ratios("Bridges", "bare"),
    "hostile": _ratios("Hostile subscribers"),
    "uploads": _ratios("While a checkpoint is uploaded"),
    "throughput": _throughput,
    "growth": _growth,
    "hosts": _ratios("A step with 100 readers of bus.events(), ten of them stuck"),
    "cuda": _ratios("On CUDA"),
}
