"""`stepbus train`: settings from flags and YAML, stopping and going on."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from stepbus import get_last_checkpoint
from stepbus.cli import main
from stepbus.engine.checkpoint import checkpoint_step

Stepbus = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Any]


def printed_config(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["train", *words, "--print-config"]) == 0
    return capsys.readouterr().out


def test_print_config_round_trips(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    words = ("a.txt", "b.txt", "--max_steps=7", "--eval-strategy", "no", "--report-to", "none")
    first = printed_config(capsys, *words, "--save-total-limit", "none", "--adam-epsilon", "1e-9")
    config.write_text(first)
    assert printed_config(capsys, "--config", str(config)) == first
    values = yaml.safe_load(first)
    assert values["files"] == ["a.txt", "b.txt"]
    assert values["max_steps"] == 7
    assert values["eval_strategy"] == "no"
    assert values["report_to"] == []
    assert values["save_total_limit"] is None
    assert "output_dir" not in values


def test_flags_win_over_yaml_over_defaults(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("max-steps: 5\nlearning_rate: 3e-4\neval_strategy: no\nbf16: true\n")
    values = yaml.safe_load(
        printed_config(capsys, "--config", str(config), "--max-steps", "9", "--no-bf16")
    )
    assert (values["max_steps"], values["learning_rate"]) == (9, 0.0003)
    assert (values["eval_strategy"], values["bf16"]) == ("no", False)
    assert values["block_size"] == 96


def test_epochs_that_are_asked_for_win_over_a_default_number_of_steps(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("max_steps: 5\n")
    by_flag = yaml.safe_load(printed_config(capsys, "--num-train-epochs", "2"))
    assert (by_flag["num_train_epochs"], by_flag["max_steps"]) == (2.0, -1)
    over_yaml = yaml.safe_load(
        printed_config(capsys, "--config", str(config), "--num-train-epochs", "2")
    )
    assert over_yaml["max_steps"] == -1


def test_flags_may_stand_between_files(capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load(printed_config(capsys, "a.txt", "--width", "32", "b.txt"))
    assert (values["files"], values["width"]) == (["a.txt", "b.txt"], 32)


@pytest.mark.slow
def test_trains_on_the_users_files_as_yaml_and_flags_say(
    stepbus: Stepbus, tiny: tuple[str, ...], text_file: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second.txt"
    second.write_bytes("\ufeffGr\u00fc\u00dfe\r\n".encode() * 30)
    (tmp_path / "config.yaml").write_text("max_steps: 50\ndropout: 0.1\nrun_name: mine\n")
    words = ("--config", "config.yaml", "--max-steps", "3", "--output-dir", "here", *tiny)
    done = stepbus("train", text_file, second.name, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = json.loads((tmp_path / "here" / "checkpoint-3" / "training_args.json").read_text())
    assert (saved["max_steps"], saved["dropout"], saved["run_name"]) == (3, 0.1, "mine")
    assert saved["files"] == [str(text_file), str(second)]
    refused = stepbus("train", text_file, *words)
    assert refused.returncode == 2
    assert "holds a run already (checkpoint-3): add --resume" in refused.stderr
    longer = stepbus("train", "--resume", "--output-dir", "here", "--max-steps", "4")
    assert longer.returncode == 0, longer.stdout + longer.stderr
    assert (tmp_path / "here" / "checkpoint-4" / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_resume_after_a_stop_gives_the_weights_of_the_unbroken_run(
    stepbus: Stepbus, start: Start, tiny: tuple[str, ...], text_file: Path, tmp_path: Path
) -> None:
    # The schedule must not depend on max_steps, which differs between the two.
    words = (text_file, *tiny, "--dropout", "0.1", "--lr-scheduler-type", "constant")
    broken = start("train", *words, "--max-steps", "1000000", "--output-dir", "broken")
    broken.wait_for("training from step 0")
    broken.process.send_signal(signal.SIGTERM)
    assert broken.wait() == 143, broken.output
    assert "stepbus train --resume --output-dir broken" in broken.output
    last = get_last_checkpoint(str(tmp_path / "broken"))
    assert last is not None, broken.output
    stopped_at = checkpoint_step(last)
    assert stopped_at is not None
    assert stopped_at > 0

    steps = str(stopped_at + 5)
    resumed = stepbus("train", "--resume", "--output-dir", "broken", "--max-steps", steps)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    unbroken = stepbus("train", *words, "--max-steps", steps, "--output-dir", "unbroken")
    assert unbroken.returncode == 0, unbroken.stdout + unbroken.stderr
    one, other = (
        load_file(tmp_path / name / f"checkpoint-{steps}" / "model.safetensors")
        for name in ("broken", "unbroken")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
