"""Every example runs as people run it, and prints what it is there to show."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from stepbus import parse_event

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
DEADLINE_S = 100
IGNORED = ("-W", "ignore::DeprecationWarning:torch.jit._script")  # Ignite, as it is imported

pytestmark = pytest.mark.slow


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples write goes to the test's folder; `report_to` is obeyed as it stands."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    tempfile.gettempdir()  # kept by this process at first use: it must not be the test's folder
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.delenv("STEPBUS_REPORT_TO", raising=False)


def run(name: str, cwd: Path, *arguments: str) -> str:
    """What an example printed; it must end well, and on time."""
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", *IGNORED, str(EXAMPLES / name), *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"{name} took over {DEADLINE_S} s:\n{late.output!r}\n{late.stderr!r}")
    if done.returncode != 0:
        pytest.fail(f"{name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def test_every_example_is_run_here() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    here = Path(__file__).read_text(encoding="utf-8")
    imported = {"training.py"}
    elsewhere = {"service.py"}  # tests/test_service.py
    assert not {name for name in names - imported - elsewhere if f'"{name}"' not in here}


@pytest.mark.usefixtures("environ")
def test_decorator_stops_the_run_by_a_vote(tmp_path: Path) -> None:
    printed = run("decorator.py", tmp_path)
    assert re.search(r"^step  10: \{'loss': \d", printed, flags=re.MULTILINE), printed
    last = printed.splitlines()[-1]
    assert re.fullmatch(r"stopped at step \d+: a loss of 0\.0\d+ is low enough", last), printed


@pytest.mark.usefixtures("environ")
def test_their_trainer_saves_and_stops_by_votes(tmp_path: Path) -> None:
    lines = [x for x in run("their_trainer.py", tmp_path).splitlines() if x.startswith("step ")]
    assert re.fullmatch(r"step \d+, verdict: stop acted", lines[0]), lines
    step = lines[0].partition(",")[0]
    assert lines[1:] == [f"{step}, save", f"{step}, verdict: save acted", f"{step}, train_end"]


def losses(history: Path) -> dict[str, tuple[str, str]]:
    """The training loss and the logged norm of the weights, as written, by step."""
    with history.open(encoding="utf-8", newline="") as file:
        return {
            row["step"]: (row["loss"], row["weights"])
            for row in csv.DictReader(file)
            if row["loss"]
        }


@pytest.mark.usefixtures("environ")
def test_hand_written_loop_goes_on_to_the_same_result(tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = run("hand_written_loop.py", tmp_path, str(out))
    assert re.fullmatch(r"finished, step 70, best \S+checkpoint-\d+\n", printed), printed
    before = losses(out / "history.csv")
    assert list(before) == ["10", "20", "30", "40", "50", "60", "70"]
    shutil.rmtree(out / "checkpoint-70")

    assert run("hand_written_loop.py", tmp_path, str(out), "--resume") == printed
    assert losses(out / "history.csv") == before
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["attempt"] == 2
    events = [parse_event(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert {event.attempt for event in events if event.step > 60} == {2}


@pytest.mark.usefixtures("environ")
def test_accelerate_and_a_run_share_a_loop(tmp_path: Path) -> None:
    printed = run("accelerate_loop.py", tmp_path, str(tmp_path / "out"))
    assert printed == "finished, step 24\n"
    history = (tmp_path / "out" / "history.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in history[1:]] == ["4", "8", "12", "16", "20", "24", "24"]


@pytest.mark.usefixtures("environ")
def test_an_engine_of_ignite_takes_its_data_from_a_run(tmp_path: Path) -> None:
    lines = run("ignite_engine.py", tmp_path, str(tmp_path / "out")).splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"Ignite: micro-batch 32, loss \d+\.\d{3}", lines[0])
    assert lines[1] == "finished, step 24"


@pytest.mark.usefixtures("environ")
def test_asyncio_program_follows_a_run_and_stops_it(tmp_path: Path) -> None:
    printed = run("follow_asyncio.py", tmp_path)
    lines = printed.splitlines()
    assert lines[:4] == [f"log at step {step}" for step in (10, 20, 30, 40)], printed
    assert re.search(r"^train_end at step \d+$", printed, flags=re.MULTILINE), printed
    assert re.fullmatch(r"last loss \d+\.\d{3}", lines[-1]), printed


@pytest.mark.usefixtures("environ")
def test_trio_program_follows_a_run(tmp_path: Path) -> None:
    steps = [10, 20, 30, 40, 50, 60, 70, 80, 80]
    expected = [*(f"log at step {step}" for step in steps), "train_end at step 80"]
    assert run("follow_trio.py", tmp_path).splitlines() == expected


def execute(name: str, cwd: Path) -> dict[str, str]:
    """What each cell of a notebook printed or showed, as text by the cell's id."""
    notebook: Any = nbformat.read(EXAMPLES / name, as_version=4)  # type: ignore[no-untyped-call]
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook keeps outputs"
    client = NotebookClient(
        notebook, timeout=DEADLINE_S, resources={"metadata": {"path": str(cwd)}}
    )
    client.execute()
    shown: dict[str, str] = {}
    for cell in notebook.cells:
        parts = []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            parts.append(output.get("text") or data.get("text/html") or data.get("text/plain", ""))
        shown[cell.id] = "\n".join(parts)
    return shown


@pytest.mark.usefixtures("environ")
def test_notebook_shows_a_live_table_and_leaves_nothing_behind(tmp_path: Path) -> None:
    shown = execute("notebook.ipynb", tmp_path)
    assert "<table>" in shown["train"], shown["train"]
    assert "stopped by low_enough" in shown["train"], shown["train"]
    assert re.search(r"step \d+: stop acted, by low_enough", shown["train"]), shown["train"]
    assert "status='stopped'" in shown["summary"], shown["summary"]
    assert "is low enough" in shown["summary"], shown["summary"]
    assert re.search(
        r"^low_enough +thread +\d+ events, \d+ votes$", shown["ledger"], flags=re.MULTILINE
    )
    assert "another run: True" in shown["again"], shown["again"]
    assert "threads left: []" in shown["again"], shown["again"]
