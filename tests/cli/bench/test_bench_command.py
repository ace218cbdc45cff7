"""`stepbus bench` as people run it, in a folder with their own module."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Stepbus = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ("--seconds", "3", "--step-ms", "0.4")
pytestmark = pytest.mark.slow


@pytest.fixture
def bench(stepbus: Stepbus, tmp_path: Path) -> Stepbus:
    """Runs `stepbus bench WORDS` for a moment."""
    shutil.copy(Path(__file__).parent / "measured.py", tmp_path)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return stepbus("bench", *words, *SHORT)

    return run


def document_of(done: subprocess.CompletedProcess[str], code: int) -> dict[str, Any]:
    assert done.returncode == code, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_json_has_every_figure_of_a_callback_beside_its_control(bench: Stepbus) -> None:
    document = document_of(bench("--callback", "measured:Callback", "--json"), 0)
    assert document["schema_version"] == 1
    assert document["subject"]["target"] == "measured:Callback"
    assert document["usual"] == document["judged"] == "inline"
    assert {"processor", "cores", "load"} <= document["machine"].keys()
    assert {"python", "torch"} <= document["versions"].keys()
    assert [case["step_ms"] for case in document["cases"]] == [0.4]
    subjects = {figure["subject"] for figure in document["figures"]}
    assert {"raw, once more", "stepbus alone", "inline", "thread"} <= subjects
    assert ("process" in subjects) == ("process" not in document["refused"])
    ratios = [figure for figure in document["figures"] if figure["measure"] == "p50"]
    assert len(ratios) == len(subjects)
    for figure in ratios:
        assert figure["control"] == ratios[0]["value"]
        assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]
        assert figure["samples"] > 0
    assert document["accounts"]["thread"]["handled"] > 0
    assert document["accounts"]["inline"]["handled"] > 0
    assert document["accounts"]["inline"]["subscriber"] == "Callback"
    assert document["failed"] == {}
    assert document["verdict"]
    assert document["is_over"] is False


def test_over_the_ratio_it_fails_and_says_so(bench: Stepbus) -> None:
    words = ("--subscriber", "measured:Heavy", "--delivery", "inline", "--max-ratio", "1.5")
    done = bench(*words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "--max-ratio 1.5, inline, 0.4 ms step: not met, by" in done.stdout
    for name in ("raw, once more", "stepbus alone", "inline", "in a thread"):
        assert name in done.stdout
    assert "\x1b[" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_a_subject_that_fails_gets_no_verdict(bench: Stepbus) -> None:
    document = document_of(bench("--subscriber", "measured:Raising", "--json"), 0)
    assert {"inline", "thread"} <= document["failed"].keys()
    assert "quarantined" in document["failed"]["thread"]
    assert document["verdict"].startswith("no verdict: it worked in no place")
