"""Wherever a training stands, a handler of a module beside it works in another process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.bus.sidecar.conftest import is_running
from tests.bus.sidecar.handlers import lines_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 90
STEPS = 5

NEIGHBOUR = """
    import json
    import os
    import sys

    from stepbus import Subscriber


    class Notes(Subscriber):
        def __init__(self, path):
            self.path = path

        def made_with(self):
            return {"path": self.path}

        def on_step_end(self, event):
            heavy = sorted({"torch", "stepbus.engine"} & set(sys.modules))
            line = {"pid": os.getpid(), "step": event.step, "heavy": heavy}
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\\n")
"""

# What stands at the top leaves a line for each time that it is run, and by whom.
TOP = """
    import os
    import signal
    import sys
    from pathlib import Path

    with open("ran", "a") as file:
        file.write(f"{os.getpid()} {__name__}\\n")

    import stepbus.engine
    from neighbour import Notes
    from stepbus import ArgumentError, EventBus
    from stepbus.schemas import TrainerState


    def of_main(event):
        pass


    def steps(bus, link, count):
        for _ in range(count):
            link.state.global_step += 1
            link.emit("step_end")
        assert bus.flush(60)


    def train():
        assert "torch" in sys.modules
        bus = EventBus()
        try:
            bus.subscribe("step_end", delivery="process")(of_main)
        except ArgumentError as error:
            Path("refused").write_text(str(error))
        bus.subscribe(Notes("notes"), delivery="process", required=True)
        with bus:
            link = bus.open_run(TrainerState())
            steps(bus, link, COUNT)
            first = int(Path("notes").read_text().partition('"pid": ')[2].partition(",")[0])
            os.kill(first, signal.SIGKILL)
            steps(bus, link, COUNT)
""".replace("COUNT", str(STEPS))

GUARD = """
    if __name__ == "__main__":
        train()
"""

WITHOUT_GUARD = """
    train()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a training, with a module of its user's in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "neighbour.py").write_text(textwrap.dedent(NEIGHBOUR))
    return folder


def environment() -> dict[str, str]:
    """Finds stepbus, and nothing of the training's folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def run(words: list[str], folder: Path, given: str = "") -> int:
    """Runs Python in a folder to its end; its process id."""
    said = folder / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        process.communicate(given, timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail(f"it did not end in {DEADLINE_S} s\n{said.read_text()}")
    assert process.returncode == 0, said.read_text()
    return process.pid


def assert_served(folder: Path, trainer: int) -> None:
    """All came to two processes, one after the other, that are light and gone; one ran `TOP`."""
    lines = lines_of(folder / "notes")
    assert [line["step"] for line in lines] == list(range(1, 2 * STEPS + 1))
    pids = [line["pid"] for line in lines]
    assert pids[:STEPS] == [pids[0]] * STEPS
    assert pids[STEPS:] == [pids[-1]] * STEPS
    assert len({trainer, pids[0], pids[-1]}) == 3
    assert [line["heavy"] for line in lines] == [[]] * (2 * STEPS)
    assert (folder / "ran").read_text() == f"{trainer} __main__\n"
    refusal = (folder / "refused").read_text()
    assert refusal.startswith("of_main cannot be handed to a process: it is defined in __main__")
    assert "move it to a module of its own" in refusal
    assert "or use delivery='thread'" in refusal
    assert not [pid for pid in pids if is_running(pid)]


@pytest.mark.parametrize("ending", [GUARD, WITHOUT_GUARD], ids=["guard", "no guard"])
def test_a_script(project: Path, tmp_path: Path, ending: str) -> None:
    (project / "training.py").write_text(textwrap.dedent(TOP + ending))
    # From elsewhere: the module is found beside the script, not in the working directory.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trainer = run([str(project / "training.py")], elsewhere)
    assert_served(elsewhere, trainer)


@pytest.mark.parametrize("how", ["-c", "-", "-m"])
def test_a_program_that_is_no_script(project: Path, how: str) -> None:
    program = textwrap.dedent(TOP + WITHOUT_GUARD)
    if how == "-m":
        (project / "training.py").write_text(program)
    words = {"-c": ["-c", program], "-": ["-"], "-m": ["-m", "training"]}[how]
    trainer = run(words, project, program if how == "-" else "")
    assert_served(project, trainer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook(project: Path) -> None:
    kernel = {"display_name": "Python", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    cells = (TOP, WITHOUT_GUARD, "    print(os.getpid())")
    notebook.cells = [nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in cells]
    client = nbclient.NotebookClient(notebook, timeout=DEADLINE_S, kernel_name="python3")
    client.execute(env=environment(), cwd=str(project))
    assert_served(project, int(notebook.cells[-1].outputs[0]["text"]))
