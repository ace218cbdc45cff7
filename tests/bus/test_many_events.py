"""A million events for one that does not keep up: memory stays flat, and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("many_events.py")
BUDGET_MB = 50


def run(case: str, tmp_path: Path) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), case],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=115,
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    print(told)
    assert list(tmp_path.iterdir()) == []
    return told


@pytest.mark.slow
def test_one_that_is_slower_than_they_come_gets_all_in_order_and_memory_stays_flat(
    tmp_path: Path,
) -> None:
    told = run("slow", tmp_path)
    assert (told["handled"], told["dropped"]) == (1_000_000, {})
    assert told["in_order"]
    assert told["of_its_state"]
    assert told["spilled"] > 700_000
    assert told["growth_mb"] <= BUDGET_MB


@pytest.mark.slow
def test_one_that_is_stuck_takes_little_memory(tmp_path: Path) -> None:
    told = run("stuck", tmp_path)
    assert (told["handled"], told["dropped"]) == (0, {"stuck": 999_999})
    assert told["growth_mb"] <= BUDGET_MB
