"""A web hook on loopback for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.subscribers.webhook.hook_server import HookServer


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[HookServer]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = HookServer()
    yield server
    server.stop()
