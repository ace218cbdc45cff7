"""The command `stepbus migrate`: what it prints, its exit codes, and how little it loads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stepbus.cli import main

from .migrated import CLASSIFICATION, REFUSED, WEIGHTED_LOSS

Stepbus = Callable[..., subprocess.CompletedProcess[str]]
SOURCE = str(Path(__file__).resolve().parents[2] / "src")


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scripts, of which two use the reference's trainer."""
    monkeypatch.chdir(tmp_path)
    files = {
        "good.py": CLASSIFICATION,
        "job/refused.py": REFUSED,
        "job/other.py": "import torch\n",
        ".hidden/x.py": "not python",
        "env/pyvenv.cfg": "",
        "env/x.py": "not python",
        "job/__pycache__/x.py": "not python",
        "job/notes.txt": "not python",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_script_that_is_ready_ends_with_0(scripts: Path, stepbus: Stepbus) -> None:
    done = stepbus("migrate", "good.py", "--check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ready: nothing is refused, only the imports change"
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_a_script_with_something_refused_ends_with_1(scripts: Path, stepbus: Stepbus) -> None:
    done = stepbus("migrate", "job/refused.py", "--check")
    assert done.returncode == 1
    assert " refused: change these before it runs with stepbus" in done.stdout.splitlines()[-1]
    assert "line 25" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_folder_is_walked_without_environments(scripts: Path, stepbus: Stepbus) -> None:
    done = stepbus("migrate", ".", "--check")
    assert done.returncode == 1, done.stderr
    assert "3 files, 2 with transformers' trainer or stepbus" in done.stdout
    assert "good.py\n" in done.stdout
    assert "other.py" not in done.stdout


def test_a_script_without_the_reference_has_nothing_to_change(
    scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["migrate", "job/other.py", "--check"]) == 0
    assert "nothing to change" in capsys.readouterr().out
    assert main(["migrate", "job/other.py"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "0 files changed\n"


def test_colours_are_for_terminals(scripts: Path, stepbus: Stepbus) -> None:
    done = stepbus("migrate", "good.py", "--check", FORCE_COLOR="1")
    assert "\x1b[" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("migrate", "No file was given"),
        ("migrate nowhere.py", "There is no file nowhere.py"),
        ("migrate empty", "holds no .py and no .ipynb file"),
        ("migrate broken.py --check", "broken.py, line 2: not Python: "),
        ("migrate old.py", "old.py, line 1: not Python: "),
        ("migrate binary.py", "binary.py is not text"),
        ("migrate null.py", "null.py, line 1: not Python: "),
        ("migrate latin.py", "latin.py is not text"),
        ("migrate broken.ipynb --check", "broken.ipynb, cell 2, line 2: not Python: "),
        ("migrate list.ipynb", "list.ipynb is no notebook: it holds no cells"),
        ("migrate text.ipynb --json", "text.ipynb is no notebook"),
        ("migrate good.py --check --write", "choose one"),
        ("migrate good.py --chek", "did you mean --check?"),
    ],
)
def test_bad_input_is_one_line_and_ends_with_2(
    words: str, said: str, scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scripts / "empty").mkdir()
    (scripts / "broken.py").write_text("from transformers import Trainer\nTrainer((\n")
    (scripts / "old.py").write_text("print 'old'\n")
    (scripts / "binary.py").write_bytes(b"\x7fELF\xff\xfe")
    (scripts / "null.py").write_bytes(b"x = 1\x00\n")
    (scripts / "latin.py").write_bytes("x = 'é'".encode("latin-1"))
    cells = [{"cell_type": "code", "source": text} for text in ("x = 1", "\ny = (")]
    (scripts / "broken.ipynb").write_text(json.dumps({"cells": cells}))
    (scripts / "list.ipynb").write_text("[]")
    (scripts / "text.ipynb").write_text("hello")
    assert main(words.split()) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_of_several_files_the_readable_ones_are_reported(
    scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scripts / "job" / "broken.py").write_text("x = (")
    assert main(["migrate", "good.py", "job", "--check"]) == 2
    captured = capsys.readouterr()
    assert "job/broken.py, line 1" in captured.err
    assert "job/refused.py" in captured.out
    assert main(["migrate", "good.py", "job", "--write"]) == 2
    assert (scripts / "good.py").read_text() == CLASSIFICATION


def test_json_is_for_programs(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "good.py", "job/refused.py", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 1
    assert "refused" in document["verdict"]
    good, refused = document["files"]
    assert good["path"] == "good.py"
    assert good["counts"]["refused"] == 0
    assert good["counts"]["works"] == len(good["findings"])
    (ranks,) = (f for f in refused["findings"] if f["name"] == "LOCAL_RANK")
    assert ranks == {
        "line": 8,
        "kind": "refused",
        "what": "ranks",
        "name": "LOCAL_RANK",
        "text": "several ranks are refused: stepbus trains in one process on one device",
    }


def test_json_has_the_error_of_a_file_and_the_cell_of_a_notebook(
    scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scripts / "job" / "broken.py").write_text("x = (")
    cell = {"cell_type": "code", "source": "import transformers\n\ntransformers.Trainer()"}
    (scripts / "job" / "n.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert main(["migrate", "job", "--json"]) == 2
    files = {file["path"]: file for file in json.loads(capsys.readouterr().out)["files"]}
    assert "line 1" in files["job/broken.py"]["error"]
    assert files["job/n.ipynb"]["findings"][0] | {"text": ""} == {
        "cell": 1,
        "line": 3,
        "kind": "works",
        "what": "import",
        "name": "Trainer",
        "text": "",
    }


def test_what_is_refused_does_not_keep_the_imports_from_changing(
    scripts: Path, stepbus: Stepbus
) -> None:
    done = stepbus("migrate", "job", "good.py", "--write")
    assert done.returncode == 1
    assert "2 files changed" in done.stderr
    assert "refused: see --check" in done.stderr
    assert (
        "from stepbus import Trainer, TrainingArguments" in (scripts / "job/refused.py").read_text()
    )
    again = stepbus("migrate", "job", "good.py", "--write")
    assert "0 files changed" in again.stderr


def test_neither_torch_nor_transformers_is_loaded_and_the_script_never_runs(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    script = f"{WEIGHTED_LOSS}\nopen({str(marker)!r}, 'w')\nraise SystemExit(9)\n"
    (tmp_path / "train.py").write_text(script)
    program = (
        "import sys\n"
        "from stepbus.cli import main\n"
        "for flags in [['--check'], ['--json'], [], ['--write']]:\n"
        "    assert main(['migrate', 'train.py', *flags]) == 0\n"
        "heavy = {'torch', 'transformers', 'tensorboard', 'numpy'} & sys.modules.keys()\n"
        "print('loaded', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.endswith("loaded []\n"), done.stdout + done.stderr
    assert not marker.exists()
