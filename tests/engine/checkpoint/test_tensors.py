from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from stepbus.engine.checkpoint.tensors import read_tensors, write_tensors
from stepbus.engine.checkpoint.values import TENSOR_DTYPES
from stepbus.schemas.errors import CheckpointError

Same = Callable[[Any, Any], bool]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "state", {"a": torch.ones(2, 3), "b.c": torch.tensor(4)})
    return tmp_path / "state"


def stored_metadata(folder: Path) -> Any:
    return pickle.loads((folder / ".metadata").read_bytes())


def store_metadata(folder: Path, metadata: object) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_every_dtype_and_shape_comes_back(tmp_path: Path, same: Same) -> None:
    tensors = {str(dtype): torch.ones(2, 3).to(dtype) for dtype in TENSOR_DTYPES}
    tensors |= {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0),
        "empty rows": torch.empty(3, 0, dtype=torch.int64),
        "nan": torch.tensor([float("nan"), float("-inf"), -0.0]),
        "": torch.arange(3),
        "a/../b \ud800": torch.arange(4),
    }
    write_tensors(tmp_path / "state", tensors)
    back = read_tensors(tmp_path / "state")
    assert set(back) == set(tensors)
    assert all(same(back[name], tensor) for name, tensor in tensors.items())


def test_strided_and_sliced_tensors_keep_their_values_and_little_else(tmp_path: Path) -> None:
    large = torch.arange(1_000_000.0)
    tensors = {"slice": large[10:20], "steps": large[:100:10], "expanded": large[3].expand(2, 2)}
    write_tensors(tmp_path / "state", tensors)
    back = read_tensors(tmp_path / "state")
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    assert (tmp_path / "state" / "__0_0.distcp").stat().st_size < 20_000


def test_no_tensors_at_all(tmp_path: Path) -> None:
    write_tensors(tmp_path / "state", {})
    assert read_tensors(tmp_path / "state") == {}


def test_the_same_tensors_give_the_same_bytes_and_no_path_of_this_machine(
    tmp_path: Path, folder: Path
) -> None:
    again = tmp_path / "again"
    write_tensors(again, read_tensors(folder))
    for name in (".metadata", "__0_0.distcp"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert tmp_path.name.encode() not in (folder / ".metadata").read_bytes()


def test_writing_and_reading_are_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_tensors(tmp_path / "state", {"a": torch.ones(2)})
        read_tensors(tmp_path / "state")
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_torch_itself_can_read_the_folder(folder: Path) -> None:
    tensors = {"a": torch.zeros(2, 3)}
    with pytest.warns(UserWarning, match="single process"):
        load(tensors, storage_reader=FileSystemReader(folder), no_dist=True)
    assert torch.equal(tensors["a"], torch.ones(2, 3))


class Malice:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.proof}",)


def test_a_metadata_file_that_runs_a_command_is_refused_and_nothing_runs(
    tmp_path: Path, folder: Path
) -> None:
    proof = tmp_path / "proof"
    store_metadata(folder, Malice(proof))
    with pytest.raises(CheckpointError, match=r"asks for posix\.system.*nothing of it was run"):
        read_tensors(folder)
    assert not proof.exists()


def test_the_malicious_file_would_have_run_without_the_limits(tmp_path: Path, folder: Path) -> None:
    proof = tmp_path / "proof"
    store_metadata(folder, Malice(proof))
    stored_metadata(folder)
    assert proof.exists()


def test_malice_hidden_in_valid_metadata_is_refused(tmp_path: Path, folder: Path) -> None:
    proof = tmp_path / "proof"
    metadata = stored_metadata(folder)
    metadata.planner_data = Malice(proof)
    store_metadata(folder, metadata)
    with pytest.raises(CheckpointError, match=r"asks for posix\.system"):
        read_tensors(folder)
    assert not proof.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins\ngetattr",
        "builtins\neval",
        "torch\nload",
        "torch\nhub",
        "torch.serialization\nload",
    ],
)
def test_other_names_are_refused(folder: Path, name: str) -> None:
    (folder / ".metadata").write_bytes(f"c{name}\n.".encode())
    with pytest.raises(CheckpointError, match="which a checkpoint of stepbus never holds"):
        read_tensors(folder)


def test_entries_that_torch_would_unpickle_are_refused(tmp_path: Path, folder: Path) -> None:
    proof = tmp_path / "proof"
    crafted = tmp_path / "crafted"
    writer = FileSystemWriter(crafted)
    with pytest.warns(UserWarning, match="single process"):
        save({"a": Malice(proof)}, storage_writer=writer, no_dist=True)
    metadata = pickle.loads((crafted / ".metadata").read_bytes())
    assert isinstance(metadata.state_dict_metadata["a"], dcp_metadata.BytesStorageMetadata)
    with pytest.raises(CheckpointError, match="BytesStorageMetadata"):
        read_tensors(crafted)
    assert not proof.exists()


def test_a_class_of_torch_cannot_be_changed_by_the_file(folder: Path) -> None:
    before = dict(vars(dcp_metadata.Metadata))
    (folder / ".metadata").write_bytes(
        b"ctorch.distributed.checkpoint.metadata\nMetadata\n(}X\x07\x00\x00\x00versionK\x01st\x86b."
    )
    with pytest.raises(CheckpointError):
        read_tensors(folder)
    assert dict(vars(dcp_metadata.Metadata)) == before


def change_size(metadata: Any) -> None:
    huge = torch.Size([2**40, 2**10])
    entry = metadata.state_dict_metadata["a"]
    entry.size, entry.chunks[0].sizes = huge, huge


def change_offset(metadata: Any) -> None:
    metadata.state_dict_metadata["a"].chunks[0].offsets = torch.Size([1, 0])


def change_path(metadata: Any) -> None:
    for info in metadata.storage_data.values():
        info.relative_path = "../../secret"


def change_chunks(metadata: Any) -> None:
    metadata.state_dict_metadata["a"].chunks *= 2


def drop_bytes(metadata: Any) -> None:
    metadata.storage_data.popitem()


def change_dtype(metadata: Any) -> None:
    metadata.state_dict_metadata["a"].properties.dtype = torch.qint8


def change_position(metadata: Any) -> None:
    for info in metadata.storage_data.values():
        info.offset = -1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_size, "larger than its"),
        (change_offset, "stored in parts"),
        (change_path, "outside of the checkpoint"),
        (change_chunks, "too many values"),
        (drop_bytes, "no stored bytes"),
        (change_dtype, "torch.qint8"),
        (change_position, "no positions"),
    ],
)
def test_metadata_that_describes_something_else_is_refused(
    folder: Path, change: Callable[[Any], None], reason: str
) -> None:
    metadata = stored_metadata(folder)
    change(metadata)
    store_metadata(folder, metadata)
    with pytest.raises(CheckpointError, match=reason):
        read_tensors(folder)


def test_a_tensor_file_with_a_malicious_pickle_is_refused(tmp_path: Path, folder: Path) -> None:
    proof = tmp_path / "proof"
    data = folder / "__0_0.distcp"
    torch.save(Malice(proof), data)
    metadata = stored_metadata(folder)
    for info in metadata.storage_data.values():
        info.offset, info.length = 0, data.stat().st_size
    store_metadata(folder, metadata)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(folder)
    assert not proof.exists()


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_file_cut_off_is_refused(
    folder: Path, name: str, keep: float, caplog: pytest.LogCaptureFixture
) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CheckpointError):
        read_tensors(folder)
    assert not caplog.records


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
def test_a_file_that_is_missing_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(folder)
