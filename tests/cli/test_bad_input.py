"""Bad input: one clear line, exit code 2, and nothing is written."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stepbus.cli import main

Stepbus = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with every kind of bad file in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text("a good text. " * 400)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.bin").write_bytes(b"\x7fELF\x00\x01" * 100)
    (tmp_path / "latin1.txt").write_bytes("caf\u00e9 ".encode("latin-1") * 400)
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "typo.yaml").write_text("max_step: 3\n")
    (tmp_path / "twice.yaml").write_text("width: 3\nwidth: 4\n")
    (tmp_path / "broken.yaml").write_text("width: [3\n")
    (tmp_path / "list.yaml").write_text("- 3\n")
    return tmp_path


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train", "No text file was given"),
        ("train missing.txt", "There is no file"),
        ("train .", "is a directory"),
        ("train empty.txt", "is empty"),
        ("train binary.bin", "is binary"),
        ("train latin1.txt", "is not UTF-8"),
        ("train short.txt", "The text has 9 characters"),
        ("train good.txt --max-step 3", "no flag --max-step: did you mean --max-steps?"),
        ("train good.txt --max-steps", "--max-steps: expected one argument"),
        ("train good.txt --max-steps soon", "max_steps is 'soon': it should be a valid integer"),
        ("train good.txt --width 0", "width is '0': it should be greater than 0"),
        ("train good.txt --width 30", "width 30 cannot be shared among 4 heads"),
        ("train good.txt --lr-scheduler-type cosin", "did you mean 'cosine'?"),
        ("train good.txt --config nowhere.yaml", "nowhere.yaml cannot be read"),
        ("train good.txt --config typo.yaml", "'max_step': did you mean 'max_steps'?"),
        ("train good.txt --config twice.yaml", "'width' is given twice"),
        ("train good.txt --config broken.yaml", "is not YAML"),
        ("train good.txt --config list.yaml", "holds no settings"),
        ("train good.txt --output-dir good.txt/sub", "cannot be written"),
        ("train good.txt --report-to tensorbord", "did you mean 'tensorboard'?"),
        ("train --resume", "no run to resume in stepbus-train"),
        ("train --resume --output-dir .", "nothing to resume in '.'"),
        ("train --resume-from-checkpoint checkpoint-9", "checkpoint-9"),
        ("demo good.txt", "'good.txt' is one word too many"),
        ("dmeo", "There is no command 'dmeo': did you mean 'demo'?"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: str,
    said: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("STEPBUS_REPORT_TO", raising=False)
    before = everything_in(files)
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("stepbus: ")
    assert error.count("\n") == 1
    assert everything_in(files) == before
    assert not (files / "stepbus-train").exists()


def test_several_ranks_are_refused(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = everything_in(files)
    assert main(["train", "good.txt"]) == 2
    assert "WORLD_SIZE is 2" in capsys.readouterr().err
    assert everything_in(files) == before


@pytest.mark.slow
def test_a_checkpoint_of_another_model_or_text_is_refused(
    stepbus: Stepbus, tiny: tuple[str, ...], text_file: Path, tmp_path: Path
) -> None:
    first = stepbus("train", text_file, *tiny, "--max-steps", "1", "--output-dir", "here")
    assert first.returncode == 0, first.stdout + first.stderr
    other = tmp_path / "other.txt"
    other.write_text("QWERTY " * 400)
    before = everything_in(tmp_path / "here")
    for words, said in [
        (("--width", "32"), "is a checkpoint of another model: width 16 there, 32 here."),
        ((other,), "does not fit the text. The checkpoint knows"),
    ]:
        done = stepbus("train", *words, "--resume", "--output-dir", "here")
        assert done.returncode == 2, done.stdout + done.stderr
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
        assert everything_in(tmp_path / "here") == before


@pytest.mark.slow
def test_the_traceback_is_there_for_those_who_ask(stepbus: Stepbus) -> None:
    plain = stepbus("train", "--config", "missing.yaml")
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr
    for done in (
        stepbus("train", "--config", "missing.yaml", "--debug"),
        stepbus("train", "--config", "missing.yaml", STEPBUS_DEBUG="1"),
    ):
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("stepbus: --config missing.yaml")
