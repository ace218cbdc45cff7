"""What the command line says of itself, and how little it loads to say it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stepbus.cli import COMMANDS, main
from stepbus.cli.flags import ALL_FIELDS, GROUPS, NOT_FLAGS, description_of
from stepbus.schemas import TrainingArguments
from stepbus.schemas.text_job_arguments import TextJobArguments

Stepbus = Callable[..., subprocess.CompletedProcess[str]]
SOURCE = str(Path(__file__).resolve().parents[2] / "src")


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_a_help_that_fits_the_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = help_of(command, capsys).splitlines()
    assert lines[0].startswith(f"usage: stepbus {command}")
    assert max(map(len, lines)) <= 80


def test_every_argument_is_a_flag_with_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("train", capsys)
    for name in set(ALL_FIELDS) - NOT_FLAGS:
        assert description_of(name), name
        flag = name.replace("_", "-")
        assert f"  --{flag} " in text or f"  --no-{flag} " in text or f"  --{flag}\n" in text, name


def test_every_argument_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names.split()]
    assert sorted(grouped) == sorted(set(ALL_FIELDS) - NOT_FLAGS)
    own = {field.name for field in dataclasses.fields(TextJobArguments)}
    own -= {field.name for field in dataclasses.fields(TrainingArguments)}
    assert own <= {*grouped, *NOT_FLAGS}


def test_what_the_text_job_does_not_obey_is_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("train", capsys)
    for flag in ("fp16", "optim", "deepspeed", "push-to-hub", "torch-compile", "logging-dir"):
        assert f"--{flag}" not in text


@pytest.mark.parametrize(
    "words",
    [
        *("--help", "--version", "vote --help", "env --help", "train --help", "demo --help"),
        *("bench --help", "trackers"),
    ],
)
def test_torch_is_not_loaded_to_give_help(words: str, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from stepbus.cli import main\n"
        "try:\n"
        f"    assert main({words.split()}) == 0\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'tensorboard', 'matplotlib'} & sys.modules.keys()\n"
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


def test_no_words_are_answered_with_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    output = capsys.readouterr().out
    assert all(command in output for command in COMMANDS)


def test_env_prints_what_a_bug_report_needs_and_no_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert main(["env"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {"stepbus", "python", "platform", "CPUs", "torch", "OMP_NUM_THREADS"} <= facts.keys()
    assert facts["python"].startswith("{}.{}.{}".format(*sys.version_info))
    assert facts["OMP_NUM_THREADS"] == "3"
    assert "very-secret" not in str(facts)


def test_trackers_tells_which_are_reported_to_and_why_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPBUS_REPORT_TO", "tensorboard")
    assert main(["trackers"]) == 0
    output = capsys.readouterr().out
    assert "tensorboard" in output
    assert "STEPBUS_REPORT_TO=tensorboard is set and wins" in output
    line = next(text for text in output.splitlines() if " wandb " in text)
    assert importlib.metadata.version("wandb") in line
