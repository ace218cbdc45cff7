from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stepbus.engine.checkpoint import (
    check_writable,
    get_last_checkpoint,
    read_checkpoint,
    verify,
    write_checkpoint,
)
from stepbus.engine.rng import capture_rng, restore_rng
from stepbus.schemas.errors import ArgumentError, CheckpointError

Same = Callable[[Any, Any], bool]


class Training:
    """A small run with everything that a resume must bring back."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1, amsgrad=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda s: 0.9**s)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.model(torch.randn(3, 4)).square().mean().backward()
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()

    def states(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": capture_rng(),
        }


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_resumed_training_is_the_unbroken_one_to_the_last_bit(tmp_path: Path, same: Same) -> None:
    unbroken = Training()
    unbroken.steps(3)
    folder = write_checkpoint(tmp_path, 3, states=unbroken.states(), model=unbroken.model)
    written = copy.deepcopy(unbroken.states())
    unbroken.steps(4)

    resumed = Training()
    checkpoint = read_checkpoint(folder)
    assert checkpoint.step == 3
    assert same(checkpoint.states, written)
    checkpoint.load_weights(resumed.model)
    resumed.optimizer.load_state_dict(checkpoint.states["optimizer"])
    resumed.schedule.load_state_dict(checkpoint.states["schedule"])
    restore_rng(checkpoint.states["rng"])
    resumed.steps(4)
    assert same(dict(resumed.model.state_dict()), dict(unbroken.model.state_dict()))
    assert same(resumed.states(), unbroken.states())


def test_documents_are_stored_as_they_are(tmp_path: Path) -> None:
    documents = {"trainer_state.json": '{"a": 1}\r\n', "notes.txt": "gr\u00fc\u00df\n"}
    folder = write_checkpoint(tmp_path / "new" / "out", 1, states={}, documents=documents)
    checkpoint = read_checkpoint(folder)
    assert sorted(checkpoint.documents) == sorted(documents)
    assert {name: checkpoint.document(name) for name in documents} == documents
    assert names_in(tmp_path / "new" / "out") == ["checkpoint-1"]


def test_a_checkpoint_of_the_same_step_is_replaced_whole(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, states={"a": 1}, documents={"old.txt": ""})
    folder = write_checkpoint(tmp_path, 1, states={"a": 2})
    assert read_checkpoint(folder).states == {"a": 2}
    assert names_in(tmp_path) == ["checkpoint-1"]
    assert names_in(folder) == ["manifest.json", "state", "state.json"]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "manifest.json", "state", "/x"])
def test_a_document_with_a_name_that_is_not_free_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match="give a plain file name"):
        write_checkpoint(tmp_path, 1, states={}, documents={name: ""})
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("step", [-1, True, 1.0, "1"])
def test_a_step_that_is_no_whole_number_is_refused(tmp_path: Path, step: Any) -> None:
    with pytest.raises(ArgumentError, match="step must be a whole number >= 0"):
        write_checkpoint(tmp_path, step, states={})


def test_a_state_that_cannot_be_stored_leaves_nothing_behind(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, states={"a": 1})
    with pytest.raises(CheckpointError, match=r"Cannot store scaler\.0 in a checkpoint"):
        write_checkpoint(tmp_path, 2, states={"scaler": [object()]}, model=nn.Linear(1, 1))
    assert names_in(tmp_path) == ["checkpoint-1"]


def test_a_failure_in_place_keeps_the_checkpoint_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path, 1, states={"a": 1})
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError(5, os.strerror(5))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(CheckpointError, match=r"checkpoint-1 was not written .*Input/output error"):
        write_checkpoint(tmp_path, 1, states={"a": 2})
    assert read_checkpoint(folder).states == {"a": 1}
    assert names_in(tmp_path) == ["checkpoint-1"]


def test_an_interrupt_during_the_save_stays_an_interrupt_and_leaves_nothing(tmp_path: Path) -> None:

    fired: list[int] = []

    def interrupt(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and str(args[0]).endswith(".distcp") and not fired:
            fired.append(1)
            signal.raise_signal(signal.SIGINT)

    write_checkpoint(tmp_path, 1, states={})
    sys.addaudithook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(tmp_path, 2, states={"a": torch.ones(3)})
    finally:
        fired.append(1)
    assert names_in(tmp_path) == ["checkpoint-1"]


FULL_DISK = """
import json, resource, sys, torch
from pathlib import Path
from stepbus.engine.checkpoint import read_checkpoint, verify, write_checkpoint
from stepbus.schemas.errors import CheckpointError

out = Path(sys.argv[1])
write_checkpoint(out, 1, states={"kept": True}, model=torch.nn.Linear(2, 2))
large = torch.ones(100_000)
cases = {
    "weights": dict(states={}, model=torch.nn.Linear(500, 500)),
    "states": dict(states={"large": large}),
    "many states": dict(states={str(i): torch.ones(1000) for i in range(100)}),
    "document": dict(states={}, documents={"trainer_state.json": "x" * 100_000}),
    "values": dict(states={"text": "x" * 100_000}),
    "replacement": dict(states={"large": large}),
}
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
for name, parts in cases.items():
    error = None
    try:
        write_checkpoint(out, 1 if name == "replacement" else 2, **parts)
    except CheckpointError as caught:
        error = caught
    whole = read_checkpoint(out / "checkpoint-1").states == {"kept": True}
    left = sorted(path.name for path in out.iterdir())
    print(json.dumps([name, str(error), repr(error and error.__cause__), left, whole]))
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before_it_good(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 6
    for name, message, cause, left, whole in lines:
        assert "was not written" in message, (name, message)
        assert "File too large" in message, (name, message, cause)
        assert "bytes are free there" in message
        assert "Earlier checkpoints are untouched" in message
        assert cause != "None", name
        assert left == ["checkpoint-1"], name
        assert whole, name


def test_a_folder_that_can_be_written_passes_and_stays_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "out")
    assert names_in(tmp_path / "new" / "out") == []


def test_a_path_below_a_file_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ArgumentError, match=r"output_dir '.*file.*' cannot be written: "):
            check_writable(path)
        with pytest.raises(CheckpointError, match="checkpoint-1 was not written"):
            write_checkpoint(path, 1, states={})


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_a_file_system_that_takes_no_files_is_refused() -> None:
    with pytest.raises(ArgumentError, match="output_dir '/proc/self' cannot be written"):
        check_writable("/proc/self")


def test_two_writes_of_one_state_give_the_same_bytes(tmp_path: Path) -> None:
    training = Training()
    training.steps(2)
    states = training.states()
    one = verify(write_checkpoint(tmp_path / "a", 2, states=states, model=training.model))
    two = verify(write_checkpoint(tmp_path / "b", 2, states=states, model=training.model))
    assert one == two
    assert get_last_checkpoint(tmp_path / "a") == str(tmp_path / "a" / "checkpoint-2")
