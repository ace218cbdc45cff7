"""What is sent stays below the limit in any span of time."""

from __future__ import annotations

import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stepbus import upload_checkpoint
from stepbus.subscribers.uploads.bandwidth import BYTES_PER_MB, Bandwidth
from stepbus.subscribers.uploads.contents import contents_of
from stepbus.subscribers.uploads.destination import Progress
from stepbus.subscribers.uploads.interruption import Interruption
from stepbus.subscribers.uploads.remote_folder import (
    BLOCK_BYTES,
    MOST_PARTS,
    PART_BYTES,
    RemoteFolder,
    part_size,
)
from stepbus.subscribers.uploads.transfer import Transfer


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


@given(
    mb_per_s=st.floats(0.001, 1000.0),
    blocks=st.lists(st.tuples(st.integers(1, 300_000), st.floats(0.0, 2.0)), min_size=1),
)
def test_in_no_span_of_time_more_is_sent_than_its_length_allows_and_one_block(
    mb_per_s: float, blocks: list[tuple[int, float]]
) -> None:
    clock = FakeTime()
    bandwidth = Bandwidth(mb_per_s, clock.wait, lambda: clock.now)
    sent: list[tuple[float, int]] = []
    for num_bytes, pause_s in blocks:
        clock.wait(pause_s)
        bandwidth.take(num_bytes)
        sent.append((clock.now, num_bytes))
    largest = max(num_bytes for num_bytes, _ in blocks)
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            span_s = sent[last][0] - sent[first][0]
            num_bytes = sum(number for _, number in sent[first : last + 1])
            assert num_bytes <= mb_per_s * BYTES_PER_MB * span_s * (1 + 1e-9) + largest + 1


def test_no_time_is_lost_while_there_is_something_to_send() -> None:
    clock = FakeTime()
    bandwidth = Bandwidth(1.0, clock.wait, lambda: clock.now)
    for _ in range(100):
        bandwidth.take(250_000)
    assert abs(clock.now - (100.0 + 99 * 0.25)) < 1e-6


def test_without_a_limit_nobody_waits() -> None:
    clock = FakeTime()
    bandwidth = Bandwidth(None, clock.wait, lambda: clock.now)
    bandwidth.take(10**12)
    assert not bandwidth.is_limited
    assert clock.now == 100.0


def two_files(folder: Path) -> int:
    """A checkpoint of two files; its bytes."""
    folder.mkdir()
    sizes = (900_000, 300_001)
    for number, size in enumerate(sizes):
        (folder / f"{number}.bin").write_bytes(bytes([number]) * size)
    return sum(sizes)


def test_every_byte_of_an_upload_has_its_time(tmp_path: Path) -> None:
    clock, interruption = FakeTime(), Interruption()
    num_bytes = two_files(tmp_path / "checkpoint-1")
    bandwidth = Bandwidth(0.5, clock.wait, lambda: clock.now)
    remote = RemoteFolder((tmp_path / "remote").as_uri())
    transfer = Transfer(remote, bandwidth, interruption, 1, lambda *told: None)
    folder = tmp_path / "checkpoint-1"
    transfer.send(folder, contents_of(folder, "all", interruption), Progress())
    bandwidth.take(1)  # Waits for those before it.
    assert abs(clock.now - 100.0 - num_bytes / (0.5 * BYTES_PER_MB)) < 1e-6


def test_the_limit_that_was_asked_for_is_kept(tmp_path: Path) -> None:
    num_bytes = two_files(tmp_path / "checkpoint-1")
    started = time.monotonic()
    upload_checkpoint(tmp_path / "checkpoint-1", (tmp_path / "remote").as_uri(), max_mb_per_s=3)
    # The last block is sent when those before it have had their time.
    assert time.monotonic() - started > (num_bytes - BLOCK_BYTES) / (3 * BYTES_PER_MB)


@given(num_bytes=st.integers(0, 5 * 10**12))
def test_no_file_has_more_parts_than_a_store_takes(num_bytes: int) -> None:
    assert part_size(num_bytes, limited=False) is None or num_bytes > 400 * 10**9
    for limited in (False, True):
        size = part_size(num_bytes, limited=limited)
        assert size is None or (size >= PART_BYTES and size * MOST_PARTS >= num_bytes)
