"""A bucket and a Hub on loopback."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.subscribers.uploads.bucket import S3Server
from tests.subscribers.uploads.hub_server import TOKEN, HubServer


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


@pytest.fixture(scope="session")
def hub_server() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.stop()


@pytest.fixture
def hub(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[HubServer]:
    """The Hub on loopback, without what a former test left there, for this process and those that
    it starts; with a token."""
    constants = import_module("huggingface_hub.constants")
    home = tmp_path / "huggingface"
    settings = {
        "HF_ENDPOINT": hub_server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": TOKEN,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", hub_server.url)
    hub_server.repositories.clear()
    hub_server.stored.clear()
    hub_server.requests.clear()
    yield hub_server
    hub_server.before = lambda asked: None
    hub_server.refuses = "nothing"
