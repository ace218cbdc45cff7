"""An upload or a deletion may be cut off between any two requests, and does no harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stepbus import (
    CheckpointError,
    DeliveryError,
    download_checkpoint,
    latest_upload,
    upload_checkpoint,
)
from stepbus.subscribers.uploads.bandwidth import Bandwidth
from stepbus.subscribers.uploads.contents import contents_of
from stepbus.subscribers.uploads.destination import Progress
from stepbus.subscribers.uploads.interruption import (
    InterruptedUpload,
    Interruption,
    LocalFileError,
)
from stepbus.subscribers.uploads.keeping import delete_old, newest_whole, whole_uploads
from stepbus.subscribers.uploads.marker import MARKS
from stepbus.subscribers.uploads.remote_folder import RemoteFolder
from stepbus.subscribers.uploads.transfer import Transfer
from tests.subscribers.uploads.conftest import local_files

OUTSIDE = json.dumps(
    {
        "format": 1,
        "files": {"../x": {"size": 1, "sha256": ""}},
        "saved_at": 0,
        "run_id": "",
        "best": False,
    }
)


class Fragile(RemoteFolder):
    """Is cut off before its n-th change, or in the middle of it where that is a file."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.changes: list[str] = []
        self.cut_before: int | None = None

    def _note(self, what: str, *names: str) -> None:
        if self.cut_before is not None and len(self.changes) >= self.cut_before:
            raise InterruptedUpload
        self.changes.append(f"{what} {'/'.join(names)}")

    def write(self, content: bytes, *names: str) -> None:
        self._note("write", *names)
        super().write(content, *names)

    def delete(self, *names: str) -> None:
        self._note("delete", *names)
        super().delete(*names)

    def delete_folder(self, folder: str) -> None:
        self._note("delete", folder)
        super().delete_folder(folder)

    def send(self, source: Path, *rest: Any) -> None:
        try:
            self._note("send", *rest[3:])
        except InterruptedUpload:
            if source.stat().st_size:
                # A part of it had arrived.
                RemoteFolder.write(self, source.read_bytes()[:3], *rest[3:])
            raise
        super().send(source, *rest)


@pytest.fixture
def remote(tmp_path: Path) -> Fragile:
    return Fragile((tmp_path / "remote").as_uri())


def write_checkpoint(folder: Path, content: str, run_id: str = "r") -> Path:
    (folder / "state").mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(f"weights {content}")
    (folder / "state" / "0.distcp").write_text(f"state {content}")
    (folder / "empty").write_text("")
    (folder / "run.json").write_text(json.dumps({"run_id": run_id}))
    return folder


def send(remote: RemoteFolder, folder: Path, *, best: bool = False) -> Any:
    interruption = Interruption()
    transfer = Transfer(remote, Bandwidth(None), interruption, 1, lambda *told: None)
    return transfer.send(folder, contents_of(folder, "all", interruption, best=best), Progress())


def there(tmp_path: Path, name: str) -> dict[str, bytes]:
    files = local_files(tmp_path / "remote" / name)
    return {path: content for path, content in files.items() if path not in MARKS}


def cuts(remote: Fragile, action: Callable[[], object]) -> Iterator[int]:
    """Does it again and again, cut off one change later each time, until it is done."""
    for number in range(100):
        remote.changes.clear()
        remote.cut_before = number
        try:
            action()
        except InterruptedUpload:
            remote.cut_before = None
            yield number
        else:
            remote.cut_before = None
            return
    raise AssertionError("it never ended")


def test_a_cut_at_any_moment_leaves_no_half_that_is_taken_for_whole(
    tmp_path: Path, remote: Fragile
) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-5", "one")
    num_cuts = 0
    for _ in cuts(remote, lambda: send(remote, folder)):
        num_cuts += 1
        assert latest_upload((tmp_path / "remote").as_uri()) is None or there(
            tmp_path, "checkpoint-5"
        ) == local_files(folder)
    assert num_cuts > 3
    assert there(tmp_path, "checkpoint-5") == local_files(folder)
    assert latest_upload((tmp_path / "remote").as_uri()) is not None


def test_what_has_arrived_is_not_sent_again(tmp_path: Path, remote: Fragile) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-5", "one")
    sent: list[str] = []
    for _ in cuts(remote, lambda: send(remote, folder)):
        sent += [change for change in remote.changes if change.startswith("send")]
    sent += [change for change in remote.changes if change.startswith("send")]
    assert len(sent) == len(set(sent)) == 4
    remote.changes.clear()
    assert send(remote, folder).was_there
    assert not [change for change in remote.changes if not change.startswith("delete")]


def test_another_checkpoint_of_the_same_name_and_sizes_takes_its_place(
    tmp_path: Path, remote: Fragile
) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-5", "one")
    send(remote, folder)
    one = local_files(folder)
    (folder / "state" / "0.distcp").unlink()
    (folder / "extra").write_text("more")
    write_checkpoint(folder, "two")
    two = local_files(folder)
    for _ in cuts(remote, lambda: send(remote, folder)):
        if newest_whole(remote) is not None:
            assert there(tmp_path, "checkpoint-5") in (one, two)
    assert there(tmp_path, "checkpoint-5") == two


def test_a_half_of_older_content_is_not_taken_for_the_newer(
    tmp_path: Path, remote: Fragile
) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-5", "one")
    remote.cut_before = 4  # In the middle of its files.
    with pytest.raises(InterruptedUpload):
        send(remote, folder)
    remote.cut_before = None
    write_checkpoint(folder, "two")
    for _ in cuts(remote, lambda: send(remote, folder)):
        assert newest_whole(remote) is None or there(tmp_path, "checkpoint-5") == local_files(
            folder
        )
    assert there(tmp_path, "checkpoint-5") == local_files(folder)


def test_a_file_that_was_altered_is_not_uploaded(tmp_path: Path, remote: Fragile) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-5", "one")
    wanted = contents_of(folder, "all", Interruption())
    (folder / "model.safetensors").write_text("weights two")
    transfer = Transfer(remote, Bandwidth(None), Interruption(), 3, lambda *told: None)
    with pytest.raises(LocalFileError, match="was altered"):
        transfer.send(folder, wanted, Progress())
    assert newest_whole(remote) is None
    assert "model.safetensors" not in there(tmp_path, "checkpoint-5")
    with pytest.raises(LocalFileError, match="is empty, or gone"):
        contents_of(tmp_path / "checkpoint-6", "all", Interruption())


def test_the_newest_the_best_and_those_of_other_runs_stay(tmp_path: Path, remote: Fragile) -> None:
    for step in (1, 2, 3, 4, 5):
        folder = write_checkpoint(tmp_path / f"checkpoint-{step}", str(step))
        send(remote, folder, best=step in (1, 2))
    send(remote, write_checkpoint(tmp_path / "checkpoint-9", "theirs", run_id="another"))
    (tmp_path / "remote" / "checkpoint-0").mkdir()
    (tmp_path / "remote" / "checkpoint-0" / "somebody's").write_text("own")
    for _ in cuts(remote, lambda: delete_old(remote, 2, "r")):
        for name, marker in whole_uploads(remote).items():
            assert set(there(tmp_path, name)) == set(marker.files)
    assert sorted(path.name for path in (tmp_path / "remote").iterdir()) == [
        f"checkpoint-{step}" for step in (0, 2, 4, 5, 9)
    ]


def test_a_checkpoint_is_sent_and_fetched_by_functions(tmp_path: Path) -> None:
    address = (tmp_path / "remote").as_uri()
    folder = write_checkpoint(tmp_path / "checkpoint-5", "one")
    assert latest_upload(address) is None
    assert upload_checkpoint(folder, address) == latest_upload(address) == f"{address}/checkpoint-5"
    fetched = download_checkpoint(f"{address}/checkpoint-5", tmp_path / "here")
    assert fetched == str(tmp_path / "here" / "checkpoint-5")
    assert local_files(Path(fetched)) == local_files(folder)
    assert download_checkpoint(f"{address}/checkpoint-5", tmp_path / "here") == fetched
    (Path(fetched) / "empty").write_text("not any more")
    with pytest.raises(CheckpointError, match="is another checkpoint"):
        download_checkpoint(f"{address}/checkpoint-5", tmp_path / "here")
    with pytest.raises(CheckpointError, match="no whole upload"):
        download_checkpoint(f"{address}/checkpoint-6", tmp_path / "here")
    with pytest.raises(CheckpointError, match="checkpoint-<step>"):
        upload_checkpoint(tmp_path / "remote", address)
    with pytest.raises(CheckpointError, match="is empty, or gone"):
        upload_checkpoint(tmp_path / "checkpoint-7", address)
    (tmp_path / "remote" / "checkpoint-5" / "model.safetensors").write_text("weights two")
    with pytest.raises(DeliveryError, match="was altered"):
        download_checkpoint(f"{address}/checkpoint-5", tmp_path / "there")
    assert not (tmp_path / "there").exists() or not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "is no marker of stepbus"),
        ("{", "is no marker of stepbus"),
        ('{"format": 9, "files": {}, "saved_at": 0, "run_id": "", "best": false}', "format 9"),
        (OUTSIDE, "outside of its folder"),
    ],
)
def test_a_marker_that_cannot_be_trusted_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    folder = tmp_path / "remote" / "checkpoint-5"
    folder.mkdir(parents=True)
    (folder / "COMPLETE.json").write_text(text)
    with pytest.raises(DeliveryError, match=said):
        latest_upload(str(tmp_path / "remote"))


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(DeliveryError) as caught:
        RemoteFolder("nowhere://user:very-secret@host/run")
    assert "very-secret" not in str(caught.value)
