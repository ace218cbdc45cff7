"""Checkpoints of a real run in a bucket: whole, in order, resumed, kept, and never half."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepbus import (
    ArgumentError,
    DeliveryError,
    UploadCallback,
    download_checkpoint,
    latest_upload,
)
from tests.subscribers.uploads.bucket import Request, S3Server
from tests.subscribers.uploads.conftest import local_files
from tests.subscribers.uploads.training import train

pytestmark = pytest.mark.slow

RemoteFiles = Callable[..., dict[str, bytes]]
MARKER = "COMPLETE.json"


def without_marker(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    """The files of one checkpoint, its marker left out."""
    start = f"{name}/"
    found = {path.removeprefix(start): b for path, b in files.items() if path.startswith(start)}
    del found[MARKER]
    return found


def test_every_checkpoint_is_in_the_bucket_byte_for_byte_and_its_marker_comes_last(
    tmp_path: Path,
    s3: S3Server,
    bucket: str,
    remote_files: RemoteFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    address = f"s3://{bucket}/runs/one"
    callback = UploadCallback(address)
    summary = train(tmp_path / "out", callback)
    row = summary.ledger["UploadCallback"]
    assert (row.delivery, row.failures, row.handled) == ("process", 0, row.accepted)
    files = remote_files(address, **s3.options)
    for step in (1, 2, 3):
        local = local_files(tmp_path / "out" / f"checkpoint-{step}")
        assert without_marker(files, f"checkpoint-{step}") == local
        puts = [path for path in s3.of("PUT", bucket) if f"checkpoint-{step}/" in path]
        assert puts[0].endswith(f"checkpoint-{step}/UPLOADING.json")
        assert puts[-1].endswith(f"checkpoint-{step}/{MARKER}")
        assert len(puts) == len(set(puts)) == len(local) + 2
    assert not [path for path in files if "UPLOADING" in path or "probe" in path]
    assert callback.latest == f"{address}/checkpoint-3"
    assert latest_upload(address) == callback.latest
    fetched = download_checkpoint(callback.latest, tmp_path / "fetched")
    assert local_files(Path(fetched)) == local_files(tmp_path / "out" / "checkpoint-3")
    resumed = train(tmp_path / "again", None, max_steps=4, resume_from_checkpoint=fetched)
    assert resumed.global_step == 4


def test_rotation_waits_for_a_slow_server_and_keep_rotates_there(
    tmp_path: Path, s3: S3Server, bucket: str, remote_files: RemoteFiles
) -> None:
    out, release, seen = tmp_path / "out", threading.Event(), threading.Event()
    originals: dict[str, dict[str, bytes]] = {}

    def hold(request: Request) -> None:
        if request.method == "PUT" and request.path.endswith("checkpoint-1/model.safetensors"):
            seen.set()
            assert release.wait(60)

    def in_step(step: int) -> None:
        for folder in out.glob("checkpoint-*"):
            originals.setdefault(folder.name, local_files(folder))
        if step == 5:
            assert seen.wait(60)
            # Those that wait for their upload stay as well, whatever save_total_limit says.
            assert sorted(originals) == [f"checkpoint-{n}" for n in (1, 2, 3, 4)]
            assert all((out / name).is_dir() for name in originals)
            release.set()

    s3.before = hold
    address = f"s3://{bucket}/run"
    callback = UploadCallback(address, storage_options=s3.options, keep=2)
    summary = train(out, callback, max_steps=5, save_total_limit=1, in_step=in_step)
    assert [Path(path).name for path in summary.checkpoints] == ["checkpoint-5"]
    originals["checkpoint-5"] = local_files(out / "checkpoint-5")
    files = remote_files(address, **s3.options)
    assert sorted({path.partition("/")[0] for path in files}) == ["checkpoint-4", "checkpoint-5"]
    for name in ("checkpoint-4", "checkpoint-5"):
        assert without_marker(files, name) == originals[name]
    for step in (1, 2, 3):
        start = f"run/checkpoint-{step}/"
        deleted = [p.removeprefix(start) for p in s3.of("DELETE", bucket) if p.startswith(start)]
        assert deleted[:2] == ["UPLOADING.json", MARKER], "the end of the upload, then the marker"
        assert sorted(deleted[2:-1]) == sorted(originals[f"checkpoint-{step}"])
        assert deleted[-1] == "UPLOADING.json"


def test_a_server_that_dies_in_mid_upload_and_comes_back_gets_all_of_it(
    tmp_path: Path, s3: S3Server, bucket: str, remote_files: RemoteFiles
) -> None:
    died = threading.Event()
    address = f"s3://{bucket}/run"

    def die(request: Request) -> None:
        if died.is_set() or request.method != "PUT":
            return
        if request.path.endswith("checkpoint-2/model.safetensors"):
            died.set()
            s3.stop()
            threading.Timer(1.0, s3.start).start()
            raise ConnectionResetError

    def look(step: int) -> None:
        if step == 3:
            assert died.wait(60)

    s3.before = die
    summary = train(
        tmp_path / "out", UploadCallback(address, storage_options=s3.options), in_step=look
    )
    assert not summary.ledger["UploadCallback"].failures
    files = remote_files(address, **s3.options)
    for step in (1, 2, 3):
        name = f"checkpoint-{step}"
        assert without_marker(files, name) == local_files(tmp_path / "out" / name)


def test_what_is_not_uploaded_at_the_end_is_named_and_sent_by_the_next_attempt(
    tmp_path: Path,
    s3: S3Server,
    bucket: str,
    remote_files: RemoteFiles,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out, address, hung = tmp_path / "out", f"s3://{bucket}/run", threading.Event()

    def hang(request: Request) -> None:
        if request.method == "PUT" and request.path.endswith("checkpoint-2/model.safetensors"):
            hung.wait(60)
            raise ConnectionResetError

    s3.before = hang
    callback = UploadCallback(address, storage_options=s3.options)
    try:
        summary = train(out, callback, drain_timeout_s=2)
    finally:
        hung.set()
    assert summary.status == "finished"
    said = caplog.text
    assert f"UploadCallback: not uploaded to {address}: checkpoint-2 (1 of 8 files" in said, said
    assert "checkpoint-3. A run that goes on" in said
    assert "is killed" not in said
    s3.before = lambda request: None
    assert latest_upload(address, storage_options=s3.options) == f"{address}/checkpoint-1"
    s3.requests.clear()
    callback = UploadCallback(address, storage_options=s3.options)
    train(out, callback, max_steps=4, resume_from_checkpoint=True)
    files = remote_files(address, **s3.options)
    for step in (1, 2, 3, 4):
        name = f"checkpoint-{step}"
        assert without_marker(files, name) == local_files(out / name)
    assert not [path for path in s3.of("PUT", bucket) if "checkpoint-1/" in path]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://there-is-no-such-bucket/run", "cannot be written .FileNotFoundError"),
        ("nowhere://bucket/run", "is no address that fsspec takes .ValueError: Protocol not known"),
        ("oci://bucket@space/run", "need a package that cannot be imported .*pip install 'ocifs'"),
        ("file:///proc/run", "cannot be written"),
    ],
)
def test_an_address_that_cannot_be_written_is_an_error_before_the_first_step(
    tmp_path: Path, s3: S3Server, address: str, said: str
) -> None:
    options = s3.options if address.startswith("s3:") else {}
    steps: list[int] = []
    with pytest.raises(DeliveryError, match=said):
        train(
            tmp_path / "out",
            UploadCallback(address, storage_options=options),
            in_step=steps.append,
        )
    assert not steps
    assert "there-is-no-such-bucket" not in s3.of("PUT"), "no bucket is made by accident"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"address": ""}, "is no address to upload to"),
        ({"address": "s3://"}, "is no address to upload to"),
        ({"what": "weights"}, "what='weights'"),
        ({"keep": 0}, "keep=0"),
        ({"max_mb_per_s": 0}, "max_mb_per_s=0"),
        ({"tries": 0}, "tries=0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        UploadCallback(**{"address": "s3://bucket/run", **arguments})


def test_the_marker_names_every_file_with_its_size_and_sum(tmp_path: Path) -> None:
    address = (tmp_path / "remote").as_uri()
    train(tmp_path / "out", UploadCallback(address, what="model", max_mb_per_s=500), max_steps=1)
    there = local_files(tmp_path / "remote" / "checkpoint-1")
    marker = json.loads(there.pop(MARKER))
    manifest = json.loads((tmp_path / "out" / "checkpoint-1" / "manifest.json").read_text())
    assert sorted(there) == [
        "model.safetensors", "run.json", "trainer_state.json", "training_args.json",
    ]  # fmt: skip
    assert marker["files"] == {name: manifest["files"][name] for name in there}
    local = local_files(tmp_path / "out" / "checkpoint-1")
    assert there == {name: local[name] for name in there}
