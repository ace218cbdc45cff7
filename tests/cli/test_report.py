"""`stepbus report`: the ledger of a training, once it has ended."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stepbus.bus import Ledger, LedgerRow, RunCost
from stepbus.bus.ledger_file import FILE, LedgerFile, read_ledger, write_ledger
from stepbus.cli import main
from stepbus.engine import run_identity
from stepbus.engine.run_identity import RunIdentity

Stepbus = Callable[..., subprocess.CompletedProcess[str]]

DOCUMENT = LedgerFile(
    status="stopped",
    reason="enough",
    global_step=1_200,
    runtime_s=12.5,
    ledger=Ledger(
        rows=(
            LedgerRow(subscriber="Slow", delivery="thread", handled=300, fell_behind=1, remedy="x"),
            LedgerRow(subscriber="[bold]", delivery="loop", handled=2),
        ),
        runs=(RunCost(run_id="abc", attempt=2, steps=700, mean_us=21.0, drains=2, drain_s=1.5),),
    ),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_ledger(tmp_path, DOCUMENT)
    run_identity.record(tmp_path, RunIdentity("abc", 2))
    return tmp_path


def test_it_is_read_as_it_was_written(folder: Path) -> None:
    assert read_ledger(folder) == DOCUMENT


def test_it_is_printed_in_words_and_as_a_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "stopped (enough) at step 1,200, after 12.50 s",
        "run abc, attempt 2: 700 steps",
    ]
    assert "Slow        own thread     300    0.0 ms       0.0 ms" in lines
    assert "[bold]      event loop       2    0.0 ms       0.0 ms" in lines
    assert lines[-1] == "Slow fell behind (x)"


def test_for_programs_it_is_printed_as_it_is_on_disk(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder), "--json"]) == 0
    assert capsys.readouterr().out == (folder / FILE).read_text()


def test_an_attempt_that_was_started_since_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_identity.record(folder, RunIdentity("abc", 3))
    assert main(["report", str(folder)]) == 0
    assert "attempt 3 of run abc was started since: it runs, or was" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "There is no ledger.json in"),
        ("{half", "cannot be read"),
        (json.dumps({**DOCUMENT.model_dump(), "schema_version": 2}), "by a later stepbus"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    folder: Path, text: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / FILE).unlink()
    if text is not None:
        (folder / FILE).write_text(text)
    assert main(["report", str(folder)]) == 2
    assert said in capsys.readouterr().err
    assert main(["report", str(folder / "nowhere")]) == 2
    assert "There is no run folder" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_training_left_is_reported(
    stepbus: Stepbus, tiny: tuple[str, ...], text_file: Path
) -> None:
    words = ("train", text_file, "--max-steps", "3", "--output-dir", "out", *tiny)
    trained = stepbus(*words, STEPBUS_REPORT_TO="")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    done = stepbus("report", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finished at step 3, after ")
    assert "JSONLHistory" in done.stdout
