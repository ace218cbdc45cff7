"""What a commit sends is counted byte for byte, and waits; an interruption ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepbus.subscribers.uploads.bandwidth import Bandwidth
from stepbus.subscribers.uploads.hub_repository import HubRepository
from stepbus.subscribers.uploads.interruption import InterruptedUpload, Interruption
from stepbus.subscribers.uploads.paced_file import PacedFile
from tests.subscribers.uploads.hub_server import HubServer

pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content=:DeprecationWarning"  # huggingface_hub of httpx2, as it sends a file
)


class Counting(Bandwidth):
    """Lets everything through and counts it."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.blocks: list[int] = []

    def take(self, num_bytes: int) -> None:
        self.blocks.append(num_bytes)


def test_what_is_sent_is_counted_and_what_its_sum_is_taken_of_is_not(
    tmp_path: Path, hub: HubServer
) -> None:
    files = {"model.safetensors": b"w" * 300_000, "config.json": b"{}" * 500}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    repository, bandwidth = HubRepository("model"), Counting()
    repository.connect()
    paths = {name: tmp_path / name for name in files}
    repository.commit("one", dict(paths), [], bandwidth, Interruption())
    assert hub.files("model") == files
    assert sum(bandwidth.blocks) == sum(map(len, files.values()))
    assert max(bandwidth.blocks) <= 65_536, "in blocks that a limit can space out"
    bandwidth.blocks.clear()
    repository.commit("the same", dict(paths), [], bandwidth, Interruption())
    assert len(hub.commits("model")) == 1
    assert sum(bandwidth.blocks) <= len(files["config.json"]), "what is there is not sent again"


def test_an_interruption_ends_what_is_being_sent(tmp_path: Path, hub: HubServer) -> None:
    interruption = Interruption()

    class Interrupts(Counting):
        def take(self, num_bytes: int) -> None:
            super().take(num_bytes)
            interruption.set()

    (tmp_path / "model.safetensors").write_bytes(b"w" * 300_000)
    repository, bandwidth = HubRepository("model"), Interrupts()
    repository.connect()
    with pytest.raises(InterruptedUpload):
        repository.commit(
            "one",
            {"model.safetensors": tmp_path / "model.safetensors"},
            [],
            bandwidth,
            interruption,
        )
    assert not hub.commits("model")
    with pytest.raises(InterruptedUpload):
        repository.commit("two", {}, [], bandwidth, interruption)


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 10)
    with PacedFile(path, Counting(), Interruption()) as file:
        assert file.read(100) + file.read() == path.read_bytes()
        file.seek(0)
        assert file.read(3) == b"\0\1\2"
