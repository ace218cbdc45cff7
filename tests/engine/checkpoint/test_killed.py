from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = 120


@pytest.mark.slow
@pytest.mark.parametrize("model", ["weights", "itself"])
def test_a_kill_at_any_moment_leaves_whole_checkpoints_only(tmp_path: Path, model: str) -> None:
    result = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("killed_writer.py")),
            *(str(tmp_path), "20", str(ROUNDS), model),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    runs = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(runs) == ROUNDS
    assert sum(run["killed"] for run in runs) > ROUNDS / 2
    for run in runs:
        assert run["all whole"], run
        assert run["right"], run
        assert (run["last"] or 0) >= max(run["announced"], default=0), run
        assert run["after the next"] == ["checkpoint-9"], run
    assert {run["last"] for run in runs} == {None, 1, 2, 3, 4, 5}
