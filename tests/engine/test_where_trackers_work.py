"""A run's tracker works in another process however its script is started, and torch does not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from tests.subscribers.test_tensorboard import scalars

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 110

TRAINING = """
import os
from pathlib import Path

import torch

from stepbus import TrainingArguments, TrainingRun

with open("imported", "a") as file:
    file.write(__name__ + "\\n")


def children():
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found += (task / "children").read_text().split()
        except FileNotFoundError:
            pass  # That thread has ended.
    return found


def train():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    args = TrainingArguments(
        "out", max_steps=8, logging_steps=1, report_to="tensorboard", save_strategy="no",
        disable_tqdm=True,
    )
    loader = [torch.randn(4, 2) for _ in range(8)]
    with TrainingRun(args, model=model, optimizer=optimizer) as run:
        for batch in run.steps(loader):
            loss = model(batch).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            run.end_step(loss=loss)
        assert run.bus.flush(60)
        deliveries = {row.subscriber: row.delivery for row in run.ledger}
        print("DELIVERY", deliveries["TensorBoardCallback"])
        for pid in children():
            program = Path(f"/proc/{pid}/cmdline").read_text().split("\\0")
            if any(word.endswith("start.py") for word in program):
                print("SIDECAR, torch in it:", "torch" in Path(f"/proc/{pid}/maps").read_text())
        print("FOLDER", run.tracker("tensorboard")["folder"])
    print("LEFT", children())
"""

GUARDED = TRAINING + '\nif __name__ == "__main__":\n    train()\n'
UNGUARDED = TRAINING + "\ntrain()\n"
WITH_A_WRITER = "from torch.utils.tensorboard import SummaryWriter\n" + GUARDED


def environment() -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if name != "STEPBUS_REPORT_TO"}
    return {**environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def run(words: list[str], folder: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment(),
        input=text,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def told(printed: str) -> list[str]:
    """What the program itself has printed, without the logs."""
    return [line for line in printed.splitlines() if not line.startswith("{")]


def assert_it_worked_elsewhere(printed: str, folder: Path) -> None:
    lines = told(printed)
    assert lines[:2] == ["DELIVERY process", "SIDECAR, torch in it: False"], printed
    assert lines[3] == "LEFT []", printed
    board = folder / lines[2].removeprefix("FOLDER ")
    assert [step for step, _ in scalars(board, "train/loss")] == list(range(1, 9))
    assert (folder / "imported").read_text() == "__main__\n", "the script was imported again"


@pytest.mark.parametrize("program", [GUARDED, UNGUARDED], ids=["guarded", "unguarded"])
@pytest.mark.parametrize("how", ["script", "-c", "-", "-m"])
def test_a_program_in_whatever_way(how: str, program: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(program)
    words = {"script": ["script.py"], "-c": ["-c", program], "-": ["-"], "-m": ["-m", "script"]}
    done = run(words[how], tmp_path, program if how == "-" else "")
    assert_it_worked_elsewhere(done.stdout, tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook(tmp_path: Path) -> None:
    kernel = {"display_name": "Python", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in (TRAINING, "train()")]
    client = nbclient.NotebookClient(notebook, timeout=DEADLINE_S, kernel_name="python3")
    client.execute(env=environment(), cwd=str(tmp_path))
    outputs: list[Any] = notebook.cells[1].outputs
    printed = "".join(out["text"] for out in outputs if out.get("name") == "stdout")
    assert_it_worked_elsewhere(printed, tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_name_of_a_notebook_is_refused_with_what_to_do(tmp_path: Path) -> None:
    cell = """
        from stepbus import ArgumentError, EventBus

        def on_log(event): ...

        try:
            EventBus().subscribe("log", delivery="process")(on_log)
        except ArgumentError as error:
            print(error)
    """
    kernel = {"display_name": "Python", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell(textwrap.dedent(cell))]
    nbclient.NotebookClient(notebook, timeout=DEADLINE_S, kernel_name="python3").execute(
        env=environment(), cwd=str(tmp_path)
    )
    (output,) = notebook.cells[0].outputs
    assert "on_log cannot be handed to a process: it is defined in __main__" in output["text"]
    assert "move it to a module of its own" in output["text"]
    assert "use delivery='thread'" in output["text"]


def test_a_script_that_uses_the_tracker_itself_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(WITH_A_WRITER)
    done = run(["script.py"], tmp_path)
    assert told(done.stdout)[0] == "DELIVERY thread", done.stdout
    (line,) = [text for text in done.stderr.splitlines() if "works in a thread" in text]
    assert "the script has SummaryWriter of torch.utils.tensorboard.writer itself" in line
    assert "SIDECAR" not in done.stdout
