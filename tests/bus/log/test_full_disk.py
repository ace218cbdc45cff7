"""A disk that is full: said once, what fits into memory waits for it, the rest is counted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stepbus.bus.log import Damage, LogReader

PROGRAM = Path(__file__).with_name("full_disk.py")
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_a_full_disk_is_said_and_what_fits_into_memory_is_written_later(
    tmp_path: Path, kept: bool
) -> None:
    folder = tmp_path / "log"
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), *([str(folder)] if kept else [])],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert "File too large" in told["failing"]
    assert told["failing_at_the_end"] == ""
    assert told["written"] == list(range(10))
    assert told["in_memory"] > 300
    assert told["dropped"] >= 1
    first_dropped = 9 + told["in_memory"]
    assert told["kept"] == first_dropped + told["dropped"]
    assert told["got"] == [*range(first_dropped), told["kept"], told["after"]]
    assert told["missing"] == told["dropped"]
    assert told["waits_at_the_end"] == 0
    assert ran.stderr.count("the log cannot be written to") == 1
    assert f"free space on that disk{'' if kept else ', or start with TMPDIR'}" in ran.stderr
    assert f"{told['dropped']} records were lost so far" in ran.stderr
    if kept:
        damages: list[Damage] = []
        records = [record.at for record in LogReader(folder, report=damages.append)]
        assert records == told["got"]
        assert [(d.first, d.num_lost) for d in damages] == [(first_dropped, told["dropped"])]
    assert [p.name for p in tmp_path.iterdir()] == (["log"] if kept else [])


@pytest.mark.slow
def test_who_falls_behind_on_a_full_disk_gets_what_can_still_be_delivered(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(PROGRAM.with_name("behind_on_a_full_disk.py"))],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert "File too large" in told["failing"]
    # 16 MB wait in memory; never dropped are the evaluations, which come to all.
    assert 5_000 < told["dropped_while_full"] < 50_000
    assert told["dropped"] == {"disk": told["dropped_while_full"]}
    assert told["handled"] + told["dropped"]["disk"] == told["accepted"] == 65_065
    assert told["in_order"]
    assert told["last"]
    assert told["evaluations"]
    assert ran.stderr.count("the log cannot be written to") == 1
    assert ran.stderr.count("subscriber behind fell behind, and is losing events") == 1
    assert list(tmp_path.iterdir()) == []
