from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from stepbus.engine.checkpoint import (
    get_last_checkpoint,
    list_checkpoints,
    read_checkpoint,
    verify,
    write_checkpoint,
)
from stepbus.schemas.errors import CheckpointError

FILES = [
    "manifest.json",
    "model.safetensors",
    "state.json",
    "state/.metadata",
    "state/__0_0.distcp",
    "trainer_state.json",
]


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path, 9, states={})


@pytest.fixture
def folder(tmp_path: Path, older: Path) -> Path:
    return write_checkpoint(
        tmp_path,
        10,
        states={"optimizer": {"exp_avg": torch.ones(3)}},
        model=nn.Linear(2, 2),
        documents={"trainer_state.json": '{"global_step": 10}\n'},
    )


def test_a_whole_checkpoint_is_verified_and_described(folder: Path) -> None:
    manifest = verify(folder)
    assert sorted(["manifest.json", *manifest.files]) == FILES
    assert (manifest.step, manifest.torch) == (10, str(torch.__version__))
    assert manifest.files["model.safetensors"].size == (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_file_is_named(folder: Path, older: Path, name: str) -> None:
    (folder / name).unlink()
    for deep in (True, False):
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            verify(folder, deep=deep)
    assert get_last_checkpoint(folder.parent) == str(older)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_file_cut_off_is_named(folder: Path, older: Path, name: str) -> None:
    size = (folder / name).stat().st_size
    with (folder / name).open("r+b") as file:
        file.truncate(size - 1)
    with pytest.raises(CheckpointError, match=f"{name} has {size - 1} bytes instead of {size}"):
        verify(folder, deep=False)
    assert get_last_checkpoint(folder.parent) == str(older)


@pytest.mark.parametrize("name", FILES[1:])
def test_one_flipped_bit_is_found_and_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} was altered"):
        read_checkpoint(folder)


def test_no_flipped_bit_of_the_manifest_goes_unnoticed(folder: Path) -> None:
    path = folder / "manifest.json"
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        content = bytearray(whole)
        content[position] ^= 4
        path.write_bytes(content)
        if json_or_none(content) == json.loads(whole):
            continue
        with pytest.raises(CheckpointError):
            verify(folder)


def json_or_none(content: bytes | bytearray) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": 1}', b"null", b"\xff"])
def test_a_manifest_that_is_something_else_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json was altered or cut off"):
        verify(folder)
    assert folder not in list_checkpoints(folder.parent)


def test_a_newer_format_says_which_version_is_needed(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CheckpointError, match="has format 2, and this version of stepbus reads"):
        verify(folder)


def test_a_file_added_later_does_no_harm(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    assert read_checkpoint(folder).documents == ("trainer_state.json",)
