"""A run that is killed, wherever, and resumed ends with the weights of an unbroken one."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent / "killed_run.py"
TIMEOUT_S = 100
KINDS = ("shuffled", "own generator", "weighted", "workers", "stream", "stream 2", "plain")
MOST_REPORTS = 220
"""Later ones are not reached by every run."""
FIRST_SAVE, ONE_SAVE = 4, 30
"""Steps before it, and the reports that it makes at most."""


def train(root: Path, kind: str, *runs: list[int]) -> list[list[dict[str, Any] | None]]:
    """For each run what each of its attempts made; None where it was killed."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(root), kind, json.dumps(runs)],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    made = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(made) == len(runs), done.stderr + done.stdout
    return made


def check(made: list[dict[str, Any] | None], unbroken: dict[str, Any]) -> None:
    *killed, result = made
    assert killed
    assert killed == [None] * len(killed)
    assert result is not None
    for what in ("weights", "logged", "train_loss"):
        assert result[what] == unbroken[what], what
    for step, loss in result["losses"].items():
        assert loss == unbroken["losses"][step], step
    assert 1 <= result["attempt"] <= len(made)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_and_resumed_run_equals_the_unbroken_one(tmp_path: Path, kind: str) -> None:
    draw = random.Random(kind)
    kills = [[draw.randrange(5, MOST_REPORTS) for _ in range(times)] for times in (1, 2)]
    (unbroken,), *broken = train(tmp_path, kind, [], *kills)
    assert unbroken is not None
    assert unbroken["num_reports"] > MOST_REPORTS
    assert unbroken["attempt"] == 1
    for made in broken:
        check(made, unbroken)


@pytest.mark.slow
def test_a_run_killed_at_any_file_operation_of_a_save(tmp_path: Path) -> None:
    kills = [[last] for last in range(FIRST_SAVE, FIRST_SAVE + ONE_SAVE, 3)]
    (unbroken,), *broken = train(tmp_path, "shuffled", [], *kills)
    assert unbroken is not None
    for made in broken:
        check(made, unbroken)


@pytest.mark.slow
def test_attempts_are_counted_and_the_run_keeps_its_name(tmp_path: Path) -> None:
    # The second attempt has read its checkpoint when it ends.
    ((*killed, third),) = train(tmp_path, "shuffled", [MOST_REPORTS, 40])
    assert killed == [None, None]
    assert third is not None
    assert third["attempt"] == 3
    saved = json.loads((tmp_path / "0" / "checkpoint-17" / "run.json").read_text())
    assert saved == {"run_id": third["run_id"], "attempt": 3}
    first = json.loads((tmp_path / "0" / "run.json").read_text())
    assert first["run_id"] == third["run_id"]
