"""The benchmarks run, and print each figure beside its control."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def report(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """The figures and the output of a quick run."""
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    json_path = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--quick", "--json", str(json_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(json_path.read_text())
    assert {"machine", "python", "torch"} <= set(figures["machine"])
    return figures, done.stdout


@pytest.mark.slow
def test_quick_report_has_every_row_with_control_and_budget(tmp_path: Path) -> None:
    figures, printed = report(tmp_path, "emit")
    assert len(figures["figures"]) == 8
    for row in figures["figures"]:
        assert row["what"] in printed
        assert row["samples"] >= 50
        assert row["budget"] > 0
        assert row["control"] == pytest.approx(0, abs=5)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_quick_report_of_the_engines_sets_each_beside_a_raw_loop(tmp_path: Path) -> None:
    figures, printed = report(tmp_path, "engines")
    rows = figures["figures"]
    for unit, kinds in (("x", 1), ("us", 2)):
        for loop in ("raw, once more", "TrainingRun", "stepbus.Trainer"):
            of_loop = [r for r in rows if r["unit"] == unit and r["what"].startswith(f"{loop}, ")]
            assert len(of_loop) == kinds
            for row in of_loop:
                assert row["what"] in printed
                assert row["samples"] >= 50
                assert row["interval"][0] <= row["median"] <= row["interval"][1]
                assert (row["budget"] is None) == (loop == "raw, once more")


def test_unknown_benchmark_is_an_error_with_the_names_there_are() -> None:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "engine"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2
    assert "no benchmark engine: there are emit, engines" in done.stderr
