"""The report: each figure beside its control, each budget with its outcome, gaps by name."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.budgets import BUDGETS, figures_of, judged, outcome
from benchmarks.part import Part
from benchmarks.readme import BEGIN, END, block, put
from benchmarks.report import kept, write
from stepbus.cli.bench.comparison import CONTROL, Compared, figures
from stepbus.cli.bench.figures import Figure
from stepbus.cli.bench.paired import Estimate

ROOT = Path(__file__).parents[2]


def compared(name: str, p50: float, p99: float = 1.0) -> Compared:
    def near(value: float) -> Estimate:
        return Estimate(value, value - 0.01, value + 0.01)

    us = (p50 - 1) * 400
    return Compared(
        name, near(p50), near(p99), near(p50), near(us), near(us), 0.4 * p50, 0.4 * p99, 9.0, 100
    )


def engine_figures(p50: float) -> list[Figure]:
    control = compared(CONTROL, 1.0)
    return [
        figure
        for row in (control, compared("stepbus Trainer", p50), compared("Ignite Engine", 1.09))
        for figure in figures("engines", "0.4 ms step, nothing attached", row, control)
    ]


def emit_figure(handlers: int, value: float) -> Figure:
    case = f"{handlers} handler{'' if handlers == 1 else 's'}"
    return Figure("emit", case, "stepbus", "us an emit", value, "us", control=0.001)


def parts(p50: float = 1.2) -> list[Part]:
    emits = [emit_figure(handlers, 0.2 * bool(handlers)) for handlers in (0, 1, 8, 32)]
    rates = [
        Figure(
            "throughput",
            f"{count} subscriber{'s' if count > 1 else ''}",
            name,
            "events/s",
            rate / count,
            "1/s",
            interval=(rate / count * 0.9, rate / count * 1.1),
        )
        for count in (1, 4, 16)
        for name, rate in (("stepbus, thread", 160_000.0), ("bubus", 600.0))
    ]
    control = compared("at step 1,000, once more", 1.0)
    grown = compared("at step 1,000,000", 1.01)
    growth = [
        figure
        for row in (control, grown)
        for figure in figures("growth", "0.4 ms step", row, control)
    ]
    return [
        Part("emit", "The hot path", emits, notes=["How it is read."]),
        Part("engines", "Engines", engine_figures(p50), gaps=["Lightning Trainer: not installed"]),
        Part("throughput", "Throughput", rates),
        Part("growth", "Growth", growth),
        Part("cuda", "On CUDA", gaps=["there is no CUDA device here"]),
    ]


def test_each_budget_is_met_or_missed_by_a_distance_or_named_as_not_measured(
    tmp_path: Path,
) -> None:
    write(tmp_path, parts(), quick=False)
    document = json.loads((tmp_path / "report.json").read_text())
    outcomes = {row["what"]: row["outcome"] for row in document["budgets"]}
    assert len(outcomes) == len(BUDGETS)
    assert outcomes["emit, nobody listening: at most 0.1 us"] == "met"
    assert outcomes["emit, 1 to 32 subscribers, warm loop: at most 0.5 us"] == "met"
    assert outcomes["events to one subscriber, end to end: at least 150,000/s"] == "met"
    (engine,) = (row for row in document["budgets"] if row["what"].startswith("whole engine"))
    assert engine["outcome"] == "not met"
    verdicts = {figure["measure"]: figure["verdict"] for figure in engine["figures"]}
    assert verdicts == {"p50": "not met, by 0.150 x", "wall_us": "not met, by 4.0 times"}
    (cuda,) = (row for row in document["budgets"] if row["what"].startswith("launch-bound"))
    assert (cuda["outcome"], cuda["needs"]) == ("not measured", "a CUDA device")


def test_markdown_has_every_figure_gap_and_machine(tmp_path: Path) -> None:
    paths = write(tmp_path, parts(), quick=True)
    text = (tmp_path / "report.md").read_text()
    assert "processor: " in text
    assert "A quick report" in text
    assert "- Lightning Trainer: not installed" in text
    assert "- there is no CUDA device here" in text
    assert "How it is read." in text
    assert "| stepbus Trainer | 1.200 x [1.190 to 1.210] |" in text
    assert "1.200 x (1.000 ± 0.010)" in text
    assert "not measured; it takes a CUDA device" in text
    for path in paths:
        assert path.exists()
    for picture in (path for path in paths if path.suffix == ".png"):
        assert f"]({picture.name})" in text


def test_charts_are_pictures_of_the_parts_that_have_figures(tmp_path: Path) -> None:
    paths = write(tmp_path, parts(), quick=True)
    pictures = [path for path in paths if path.suffix == ".png"]
    assert [path.stem for path in pictures] == ["emit", "engines", "throughput", "growth"]
    for path in pictures:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5_000


@pytest.mark.parametrize(
    ("p50s", "said"),
    [
        ((1.0, 1.05), "met"),
        ((1.0, 1.2), "**not met**"),
        ((1.0, 1.055), "not told from the control"),
        ((), "not measured"),
    ],
)
def test_outcome_of_a_budget_is_that_of_its_worst_figure(p50s: Sequence[float], said: str) -> None:
    found = [
        dataclasses.replace(figure, budget=1.05)
        for p50 in p50s
        for figure in engine_figures(p50)
        if figure.subject == "stepbus Trainer" and figure.measure == "p50"
    ]
    assert outcome(found) == said


def test_budgets_judge_stepbus_and_nobody_else() -> None:
    found = judged(engine_figures(1.2))
    assert {figure.subject for figure in found if figure.budget is not None} == {"stepbus Trainer"}
    budget = next(budget for budget in BUDGETS if budget.what.startswith("whole engine"))
    assert {figure.measure for figure in figures_of(budget, found)} == {"p50", "wall_us"}


def test_parts_of_a_former_report_are_kept_beside_those_that_are_measured_again(
    tmp_path: Path,
) -> None:
    write(tmp_path, parts(), quick=False)
    found = kept(tmp_path, quick=False, renewed=["engines", "throughput"])
    former = [part for part in parts() if part.name in ("emit", "growth", "cuda")]
    assert found == [dataclasses.replace(p, figures=judged(p.figures)) for p in former]
    assert kept(tmp_path, quick=True, renewed=["engines"]) == []
    assert kept(tmp_path / "elsewhere", quick=False, renewed=["engines"]) == []
    document = json.loads((tmp_path / "report.json").read_text())
    document["versions"]["torch"] = "1.0"
    (tmp_path / "report.json").write_text(json.dumps(document))
    assert kept(tmp_path, quick=False, renewed=["engines"]) == []


def test_readme_gets_the_figures_of_a_report_and_keeps_the_rest(tmp_path: Path) -> None:
    write(tmp_path, parts(), quick=False)
    document = json.loads((tmp_path / "report.json").read_text())
    new = block(document)
    readme = (ROOT / "README.md").read_text()
    changed = put(readme, new)
    assert changed.startswith(readme[: readme.index(BEGIN)])
    assert changed.endswith(readme[readme.index(END) + len(END) :])
    assert put(changed, new) == changed
    assert "| emit, nobody listening: at most 0.1 us | 0 us (0.001) | met |" in changed
    assert "**not met** |" in changed
    assert "| stepbus Trainer | 1.200 / 1.200 |" in changed
    assert "not measured: a CUDA device |" in changed
    with pytest.raises(ValueError, match="the file has no"):
        put("no marks", new)


def program(*words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_unknown_part_is_an_error_with_the_parts_there_are() -> None:
    done = program("engine")
    assert done.returncode == 2
    assert "no part engine: there are emit, engines, whole, bridges, hostile" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", ["emit", "throughput", "cuda"])
def test_quick_report_of_a_part(part: str, tmp_path: Path) -> None:
    done = program(part, "--quick", "--report", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    (found,) = document["parts"]
    assert found["name"] == part
    assert found["seconds"] > 0
    assert bool(found["figures"]) or bool(found["gaps"])
    for figure in found["figures"]:
        assert figure["part"] == part
        assert isinstance(figure["value"], float | int)
    assert "## Budgets" in (tmp_path / "report.md").read_text()
