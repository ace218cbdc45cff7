"""The report of all parts: Markdown for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from stepbus.cli.bench.figures import Figure, shown
from stepbus.cli.bench.machine import machine, versions

from .budgets import BUDGETS, Budget, figures_of, judged, outcome
from .charts import draw
from .part import Part

SCHEMA_VERSION = 1
PEERS = (
    "transformers",
    "accelerate",
    "pytorch-lightning",
    "pytorch-ignite",
    "tensorboard",
    "wandb",
    "mlflow-skinny",
    "codecarbon",
    "blinker",
    "pyee",
    "bubus",
)
HEADS = {
    "p50": "p50, ratio",
    "p99": "p99, ratio",
    "mean": "mean, ratio",
    "wall_us": "wall, more",
    "thread_us": "thread, more",
    "p50_ms": "p50",
    "p99_ms": "p99",
    "max_ms": "max",
}
INTRODUCTION = """\
*raw* is a loop written by hand that does the same work. A control is that loop beside itself in \
the same interleaving: what it shows, everything else may show by chance. Ranges are where a \
figure would lie if all was measured again, 19 times in 20, unless the part says otherwise."""


def write(folder: Path, parts: Sequence[Part], *, quick: bool) -> list[Path]:
    """Writes report.md, report.json and the charts; their paths.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_judged(part) for part in parts]
    here, packages = machine(), versions(PEERS)
    document = {
        "schema_version": SCHEMA_VERSION,
        "quick": quick,
        "machine": here,
        "versions": packages,
        "budgets": [_budget_json(budget, parts) for budget in BUDGETS],
        "parts": [part.to_json() for part in parts],
    }
    as_json, as_markdown = folder / "report.json", folder / "report.md"
    as_json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    charts = draw(folder, parts)
    text = markdown(parts, here, packages, quick=quick, charts=charts)
    as_markdown.write_text(text, encoding="utf-8")
    return [as_markdown, as_json, *charts.values()]


def kept(folder: Path, *, quick: bool, renewed: Collection[str]) -> list[Part]:
    """Parts of a former report in a folder that stand beside those which are measured again.

    None where there is no report, or one of another kind, machine or set of packages.

    Args:
        folder: where it is.
        quick: which kind of report is being made.
        renewed: names of the parts that are measured again.
    """
    try:
        document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    here = {name: fact for name, fact in machine().items() if name not in ("load", "time")}
    alike = (
        document["schema_version"] == SCHEMA_VERSION
        and document["quick"] == quick
        and document["versions"] == versions(PEERS)
        and here.items() <= document["machine"].items()
    )
    parts = document["parts"] if alike else []
    return [Part.from_json(part) for part in parts if part["name"] not in renewed]


def markdown(
    parts: Sequence[Part],
    here: dict[str, str],
    packages: dict[str, str],
    *,
    quick: bool,
    charts: dict[str, Path],
) -> str:
    """The whole report as Markdown; the figures already have their budgets."""
    took = sum(part.seconds for part in parts)
    lines = ["# What stepbus costs", ""]
    if quick:
        lines += ["A quick report: fewer repeats, some rows left out. Take no figure from it.", ""]
    lines += [", ".join(f"{name}: {fact}" for name, fact in here.items()) + ".", ""]
    lines += [", ".join(f"{name} {number}" for name, number in packages.items()) + ".", ""]
    lines += [f"Took {took / 60:.0f} minutes. {INTRODUCTION}", "", "## Budgets", ""]
    lines += _budget_table(parts)
    for part in parts:
        lines += ["", f"## {part.title}", ""]
        lines += [f"Took {part.seconds:.0f} s, from a load of {part.load:.1f} on.", ""]
        lines += part.notes[:1]
        if part.name in charts:
            lines += ["", f"![{part.title}]({charts[part.name].name})"]
        for case in _cases(part.figures):
            lines += ["", f"### {case}", "", *_case_table(part, case)]
        if part.notes[1:]:
            lines += ["", *(f"- {note}" for note in part.notes[1:])]
        if part.gaps:
            lines += ["", "Not measured:", "", *(f"- {gap}" for gap in part.gaps)]
    return "\n".join(lines) + "\n"


def _judged(part: Part) -> Part:
    return dataclasses.replace(part, figures=judged(part.figures))


def _all_figures(parts: Sequence[Part]) -> list[Figure]:
    return [figure for part in parts for figure in part.figures]


def _budget_json(budget: Budget, parts: Sequence[Part]) -> dict[str, object]:
    found = figures_of(budget, _all_figures(parts))
    return {
        "what": budget.what,
        "outcome": outcome(found).strip("*"),
        "needs": budget.needs,
        "figures": [figure.to_json() for figure in found],
    }


def _budget_table(parts: Sequence[Part]) -> list[str]:
    rows = []
    for budget in BUDGETS:
        found = figures_of(budget, _all_figures(parts))
        if not found:
            why = f"; it takes {budget.needs}" if budget.needs else ""
            rows.append([budget.what, f"not measured{why}", "", "", ""])
        for number, figure in enumerate(found):
            rows.append(
                [
                    budget.what if number == 0 else "",
                    outcome(found) if number == 0 else "",
                    f"{figure.subject}, {figure.case}: {HEADS.get(figure.measure, figure.measure)}",
                    f"{_value(figure)}{_control(figure)}",
                    figure.verdict,
                ]
            )
    return _table(["budget", "outcome", "figure", "measured (control)", "verdict"], rows)


def _cases(figures: Iterable[Figure]) -> list[str]:
    return list(dict.fromkeys(figure.case for figure in figures))


def _case_table(part: Part, case: str) -> list[str]:
    figures = [figure for figure in part.figures if figure.case == case]
    subjects = list(dict.fromkeys(figure.subject for figure in figures))
    measures = list(dict.fromkeys(figure.measure for figure in figures))
    by_key = {(figure.subject, figure.measure): figure for figure in figures}
    rows = []
    for subject in subjects:
        cells = [by_key.get((subject, measure)) for measure in measures]
        rows.append([subject, *("" if cell is None else _cell(cell) for cell in cells)])
    return _table(["", *(HEADS.get(measure, measure) for measure in measures)], rows)


def _cell(figure: Figure) -> str:
    text = _value(figure)
    if figure.interval is not None and figure.measure in ("p50", "p99", "events/s", "us an emit"):
        low, high = figure.interval
        text += f" [{_bare(low, figure)} to {_bare(high, figure)}]"
    return text


def _value(figure: Figure) -> str:
    return shown(figure.value, figure.unit)


def _control(figure: Figure) -> str:
    """The control's value, and how far it strays."""
    if figure.control is None:
        return f" (± {_bare(figure.floor, figure)})" if figure.floor else ""
    strays = f" ± {_bare(figure.floor, figure)}" if figure.floor else ""
    return f" ({_bare(figure.control, figure)}{strays})"


def _bare(value: float, figure: Figure) -> str:
    return shown(value, figure.unit).removesuffix(f" {figure.unit}")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    right = ["---", *["---:"] * (len(heads) - 1)] if heads[0] == "" else ["---"] * len(heads)
    return [line(heads), f"|{'|'.join(right)}|", *map(line, rows)]
