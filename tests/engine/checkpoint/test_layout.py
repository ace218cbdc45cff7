from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stepbus.engine.checkpoint import (
    checkpoint_folder,
    checkpoint_step,
    get_last_checkpoint,
    list_checkpoints,
    write_checkpoint,
)
from stepbus.engine.checkpoint.aside import aside, clear_abandoned


def test_checkpoints_are_listed_by_step_not_by_name(tmp_path: Path) -> None:
    folders = [write_checkpoint(tmp_path, step, states={}) for step in (1000, 9, 0, 200)]
    assert list_checkpoints(tmp_path) == [folders[2], folders[1], folders[3], folders[0]]
    assert get_last_checkpoint(tmp_path) == str(folders[0])
    assert get_last_checkpoint(str(tmp_path)) == str(folders[0])


def test_other_names_and_empty_folders_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("checkpoint-5", "checkpoint-007", "checkpoint-x", "checkpoint-", "runs"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-6").write_text("a file")
    assert list_checkpoints(tmp_path) == []
    assert get_last_checkpoint(tmp_path) is None


def test_a_folder_that_does_not_exist_has_no_checkpoint(tmp_path: Path) -> None:
    assert get_last_checkpoint(tmp_path / "nothing") is None
    (tmp_path / "file").write_text("")
    assert get_last_checkpoint(tmp_path / "file") is None


@pytest.mark.parametrize(
    ("name", "step"),
    [("checkpoint-12", 12), ("checkpoint-012", None), ("checkpoint-\u0663", None), ("model", None)],
)
def test_steps_are_read_from_names(name: str, step: int | None) -> None:
    assert checkpoint_step(f"out/{name}") == step


def pid_of_a_process_that_is_gone() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(timeout=60)
    return process.pid


def test_leftovers_of_dead_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    dead = pid_of_a_process_that_is_gone()
    mine = aside(checkpoint_folder(tmp_path, 3), "partial")
    names = {
        f".checkpoint-1.partial-{dead}-ab12": False,
        f".checkpoint-1.deleted-{dead}-ab12": False,
        ".checkpoint-2.partial-1-ab12": True,
        ".checkpoint-2.mine": True,
        mine.name: True,
        mine.name[:-8] + "00000000": False,
    }
    for name in names:
        (tmp_path / name / "state").mkdir(parents=True)
    clear_abandoned(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_replacement_cut_off_between_its_renames_is_undone(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 4, states={})
    dead = pid_of_a_process_that_is_gone()
    folder.rename(tmp_path / f".checkpoint-4.replaced-{dead}-ab12")
    assert get_last_checkpoint(tmp_path) == str(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
