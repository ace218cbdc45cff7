"""A bucket on loopback, and runs that write checkpoints."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.subscribers.uploads.bucket import S3Server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server without what a former test asked of it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3_server.requests.clear()
    yield s3_server
    s3_server.before = lambda request: None


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """The name of a new bucket."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    fsspec.filesystem("s3", **s3.options).mkdir(name)
    s3.requests.clear()
    return name


@pytest.fixture
def remote_files() -> Callable[..., dict[str, bytes]]:
    """Reads all that lies under an address, by relative path."""

    def read(address: str, **options: Any) -> dict[str, bytes]:
        fs, root = fsspec.url_to_fs(address, **options)
        fs.invalidate_cache()
        return {path[len(root) + 1 :]: fs.cat_file(path) for path in fs.find(root)}

    return read


def local_files(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
