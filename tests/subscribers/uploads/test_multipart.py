"""Files that go to S3 in several parts: whole, or taken back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from stepbus import DeliveryError, UploadCallback, download_checkpoint, upload_checkpoint
from tests.subscribers.uploads.bucket import Request, S3Server
from tests.subscribers.uploads.conftest import local_files
from tests.subscribers.uploads.test_upload import MARKER, without_marker
from tests.subscribers.uploads.training import train

pytestmark = pytest.mark.slow

PART = 5 * 2**20
"""The least that S3 takes."""
NAME = "checkpoint-1"


@pytest.fixture
def options(s3: S3Server) -> dict[str, Any]:
    return {**s3.options, "default_block_size": PART}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with a file of three parts, one of exactly two, and a small one."""
    made = tmp_path / NAME
    made.mkdir()
    (made / "model.safetensors").write_bytes(os.urandom(2 * PART + 7))
    (made / "optimizer.bin").write_bytes(os.urandom(2 * PART))
    (made / "run.json").write_text(json.dumps({"run_id": "r"}))
    return made


def open_uploads(options: dict[str, Any], bucket: str) -> list[Any]:
    """Multipart uploads that were begun and not ended."""
    fs = fsspec.filesystem("s3", **options)
    return list(fs.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads") or [])


def parts_of(s3: S3Server, file: str) -> list[str]:
    return [r.query for r in s3.requests if r.path.endswith(file) and "partNumber" in r.query]


def test_large_files_arrive_in_parts_byte_for_byte(
    tmp_path: Path,
    s3: S3Server,
    bucket: str,
    options: dict[str, Any],
    folder: Path,
    remote_files: Callable[..., dict[str, bytes]],
) -> None:
    address = f"s3://{bucket}/run"
    uploaded = upload_checkpoint(folder, address, storage_options=options)
    assert len(parts_of(s3, "model.safetensors")) == 3
    assert len(parts_of(s3, "optimizer.bin")) == 2
    assert not parts_of(s3, "run.json")
    puts = s3.of("PUT", bucket)
    assert puts[-1] == f"run/{NAME}/{MARKER}"
    assert without_marker(remote_files(address, **options), NAME) == local_files(folder)
    assert not open_uploads(options, bucket)
    fetched = download_checkpoint(uploaded, tmp_path / "fetched", storage_options=options)
    assert local_files(Path(fetched)) == local_files(folder)
    s3.requests.clear()
    # With a limit the parts are larger than this store's least, and fewer.
    (folder / "model.safetensors").write_bytes(os.urandom(2 * PART + 7))
    upload_checkpoint(folder, address, storage_options=options, max_mb_per_s=500)
    assert len(parts_of(s3, "model.safetensors")) == 2
    assert without_marker(remote_files(address, **options), NAME) == local_files(folder)


def test_a_part_that_is_refused_leaves_nothing_half_and_the_next_call_sends_it(
    s3: S3Server,
    bucket: str,
    options: dict[str, Any],
    folder: Path,
    remote_files: Callable[..., dict[str, bytes]],
) -> None:
    address, refused = f"s3://{bucket}/run", []

    def refuse(request: Request) -> None:
        if "partNumber=3" in request.query:
            refused.append(request)
            raise PermissionError

    s3.before = refuse
    with pytest.raises(DeliveryError, match="could not be reached"):
        upload_checkpoint(folder, address, storage_options=options, tries=1)
    assert refused
    s3.before = lambda request: None
    assert not open_uploads(options, bucket), "what had arrived of it was taken back"
    there = remote_files(address, **options)
    assert f"{NAME}/model.safetensors" not in there
    assert f"{NAME}/{MARKER}" not in there
    s3.requests.clear()
    upload_checkpoint(folder, address, storage_options=options)
    assert without_marker(remote_files(address, **options), NAME) == local_files(folder)


def test_a_run_uploads_its_checkpoint_in_parts_and_keeps_what_it_is_to(
    tmp_path: Path,
    s3: S3Server,
    bucket: str,
    options: dict[str, Any],
    remote_files: Callable[..., dict[str, bytes]],
) -> None:
    address = f"s3://{bucket}/run"
    callback = UploadCallback(address, storage_options=options, keep=1)
    summary = train(tmp_path / "out", callback, max_steps=2, width=1_200)
    assert summary.ledger["UploadCallback"].failures == 0
    assert len(parts_of(s3, "checkpoint-2/model.safetensors")) == 2
    files = remote_files(address, **options)
    assert {path.partition("/")[0] for path in files} == {"checkpoint-2"}
    local = local_files(tmp_path / "out" / "checkpoint-2")
    assert without_marker(files, "checkpoint-2") == local
