"""`python -m benchmarks.readme DIR [FILE]`: puts the figures of a report into the README.

Only what a report printed stands there, with the machine; one command renews all of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from stepbus.cli.bench.comparison import CONTROL
from stepbus.cli.bench.figures import shown

from .engines import ENGINES, LONG, SHORT

BEGIN, END = "<!-- figures: python -m benchmarks.readme -->", "<!-- /figures -->"
MOST = 4
"""Figures of one budget that are shown; of more, the extremes are."""
SETTINGS = {
    "nothing attached": ("nothing attached", ""),
    "TensorBoard": ("with subscribers", ", tensorboard"),
    "all its trackers": ("with subscribers", ""),
}

Figures = list[dict[str, Any]]


def block(document: dict[str, Any]) -> str:
    """The part of the README between the marks, made from a `report.json`."""
    here, packages = document["machine"], document["versions"]
    taken_on = (
        f"As `python -m benchmarks` printed them on {here['processor']}, {here['cores']} cores, "
        f"Python {packages['python']}, torch {packages['torch']} on one thread; the control in "
        "brackets is what the same measurement shows by chance."
    )
    lines = [BEGIN, taken_on, "", "| budget | measured | |", "|---|---|---|"]
    lines += [_budget(row) for row in document["budgets"]]
    found = [figure for part in document["parts"] for figure in part["figures"]]
    lines += ["", *_engines(found), "", END]
    return "\n".join(lines)


def _budget(row: dict[str, Any]) -> str:
    figures: Figures = row["figures"]
    if len(figures) > MOST:
        ordered = sorted(figures, key=lambda figure: float(figure["value"]))
        shown_values = f"{_value(ordered[0])} to {_value(ordered[-1])}"
    else:
        shown_values = " / ".join(map(_value, figures))
    needs = f": {row['needs']}" if row["needs"] and not figures else ""
    outcome = f"**{row['outcome']}**" if row["outcome"] == "not met" else row["outcome"]
    return f"| {row['what']} | {shown_values} | {outcome}{needs} |"


def _value(figure: dict[str, Any]) -> str:
    text = shown(figure["value"], figure["unit"])
    if figure["control"] is None:
        return text
    control = shown(figure["control"], figure["unit"]).removesuffix(f" {figure['unit']}")
    return f"{text} ({control})"


def _engines(figures: Figures) -> list[str]:
    """A step under each engine: the median to that of the raw loop, and the mean."""
    heads = [f"{length.name}, {name}" for length in (SHORT, LONG) for name in SETTINGS]
    lines = [
        "A step under each engine, as ratios to the loop by hand (p50 / mean):",
        "",
        f"| | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
    ]
    for name in (CONTROL, *(engine.name for engine in ENGINES)):
        cells = [
            _ratio(figures, f"{length.name}, {case}", name, setting, suffix)
            for length in (SHORT, LONG)
            for setting, (case, suffix) in SETTINGS.items()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _ratio(figures: Figures, case: str, name: str, setting: str, suffix: str) -> str:
    values = {}
    for figure in figures:
        if figure["part"] != "engines" or figure["case"] != case:
            continue
        subject: str = figure["subject"]
        trackers = subject.removeprefix(name)
        matches = trackers == suffix
        if setting == "all its trackers":
            matches = " + " in trackers or trackers == ", all four" or subject == CONTROL
        elif subject == CONTROL:
            matches = True
        if subject.startswith(name) and matches:
            values[figure["measure"]] = figure["value"]
    if not values:
        return ""
    return " / ".join(shown(values[m], "x").removesuffix(" x") for m in ("p50", "mean"))


def put(text: str, new: str) -> str:
    """The text of a file with what stands between its marks replaced.

    Raises:
        ValueError: it has no such marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the file has no {BEGIN} ... {END}")
    return before + new + after


def main() -> None:
    """Rewrites the file."""
    folder = Path(sys.argv[1])
    file = Path(sys.argv[2] if len(sys.argv) > 2 else "README.md")
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if document["quick"]:
        sys.exit(f"{folder} holds a quick report: its figures are not for the README.")
    file.write_text(put(file.read_text(encoding="utf-8"), block(document)), encoding="utf-8")


if __name__ == "__main__":
    main()
