from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from stepbus.engine.checkpoint import read_checkpoint, write_checkpoint
from stepbus.engine.checkpoint.manifest import write_manifest
from stepbus.schemas.errors import ArgumentError, CheckpointError


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no checkpoint folder '.*checkpoint-1'"):
        read_checkpoint(tmp_path / "checkpoint-1")


def test_an_empty_folder_is_no_whole_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a whole checkpoint: manifest\.json is missing"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_of_the_reference_gets_its_own_message(tmp_path: Path) -> None:
    for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json", "model.safetensors"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"Hugging Face.*from_pretrained.*not supported"):
        read_checkpoint(tmp_path)


def test_nothing_is_unpacked_before_all_is_verified(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 1, states={"a": 1}, model=nn.Linear(1, 1))
    (folder / "state" / ".metadata").write_bytes(b"cos\nsystem\n.")
    with pytest.raises(CheckpointError, match=r"Checkpoint .* is damaged: state/.metadata has"):
        read_checkpoint(folder)


@pytest.mark.parametrize("document", [[1, 2], "text", {"unknown": 1}])
def test_states_forged_with_a_fitting_manifest_are_refused(tmp_path: Path, document: Any) -> None:
    folder = write_checkpoint(tmp_path, 1, states={"a": 1})
    (folder / "manifest.json").unlink()
    (folder / "state.json").write_text(json.dumps(document))
    write_manifest(folder, 1)
    with pytest.raises(CheckpointError):
        read_checkpoint(folder)


def test_weights_that_were_not_written_are_asked_for(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, 1, states={}))
    assert not checkpoint.has_weights
    with pytest.raises(CheckpointError, match="without a model's weights"):
        checkpoint.load_weights(nn.Linear(1, 1))


def test_a_document_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    documents = {"a.json": "{}", "b.json": "{}"}
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, 1, states={}, documents=documents))
    with pytest.raises(ArgumentError, match=r"no document 'c\.json'; it has: a\.json, b\.json"):
        checkpoint.document("c.json")


def test_a_document_altered_while_in_use_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 1, states={}, documents={"a.json": "{}"})
    checkpoint = read_checkpoint(folder)
    (folder / "a.json").write_text("[]")
    with pytest.raises(CheckpointError, match="was altered while it was in use"):
        checkpoint.document("a.json")
    (folder / "a.json").unlink()
    with pytest.raises(CheckpointError, match=r"a\.json cannot be read"):
        checkpoint.document("a.json")


def test_without_a_record_of_them_all_plain_files_are_documents(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 1, states={}, documents={"a.json": "{}"})
    (folder / "manifest.json").unlink()
    (folder / "b.txt").write_text("b")
    write_manifest(folder, 1)
    assert read_checkpoint(folder).documents == ("a.json", "b.txt")
