"""What is sent stays below the limit in any span of time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stepbus.subscribers.uploads.bandwidth import BYTES_PER_MB, Bandwidth


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
    time = FakeTime()
    bandwidth = Bandwidth(mb_per_s, time.wait, lambda: time.now)
    sent: list[tuple[float, int]] = []
    for num_bytes, pause_s in blocks:
        time.wait(pause_s)
        bandwidth.take(num_bytes)
        sent.append((time.now, num_bytes))
    largest = max(num_bytes for num_bytes, _ in blocks)
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            span_s = sent[last][0] - sent[first][0]
            num_bytes = sum(number for _, number in sent[first : last + 1])
            assert num_bytes <= mb_per_s * BYTES_PER_MB * span_s * (1 + 1e-9) + largest + 1


def test_no_time_is_lost_while_there_is_something_to_send() -> None:
    time = FakeTime()
    bandwidth = Bandwidth(1.0, time.wait, lambda: time.now)
    for _ in range(100):
        bandwidth.take(250_000)
    assert abs(time.now - (100.0 + 99 * 0.25)) < 1e-6


def test_without_a_limit_nobody_waits() -> None:
    time = FakeTime()
    bandwidth = Bandwidth(None, time.wait, lambda: time.now)
    bandwidth.take(10**12)
    assert not bandwidth.is_limited
    assert time.now == 100.0
