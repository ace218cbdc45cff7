"""A training that is killed, wherever, and resumed ends with the weights of an unbroken one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent / "killed_training.py"
ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 110
ROUNDS = 10


def run(root: Path, kind: str, shares: list[float]) -> list[dict[str, Any]]:
    """What an unbroken run makes, and what each makes that was killed."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(root), kind, json.dumps(shares)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    made = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(made) == len(shares) + 1, done.stderr + done.stdout
    return made


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "gpt2"])
def test_a_killed_and_resumed_training_equals_the_unbroken_one(tmp_path: Path, kind: str) -> None:
    draw = random.Random(kind)
    shares = [draw.random() for _ in range(ROUNDS)]
    unbroken, *broken = run(tmp_path, kind, shares)
    for share, made in zip(shares, broken, strict=True):
        for what in ("weights", "history", "best", "whole"):
            assert made[what] == unbroken[what], (share, made["resumed_from"], what)
    assert len({made["resumed_from"] for made in broken}) > 2
