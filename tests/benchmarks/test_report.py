"""The benchmarks run, and print each figure beside its control."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_quick_report_has_every_row_with_control_and_budget(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", str(tmp_path / "figures.json")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "figures.json").read_text())
    assert len(report["figures"]) == 8
    for row in report["figures"]:
        assert row["what"] in done.stdout
        assert row["samples"] >= 50
        assert row["budget"] > 0
        assert row["control"] == pytest.approx(0, abs=5)
    assert {"machine", "python", "torch"} <= set(report["machine"])
