"""`python -m benchmarks.memory stuck|free EVENTS`: what a bus holds while a subscriber is stuck.

A process of its own, without torch: what it grows by is the bus's.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from stepbus import Event

from .bench_bus import Bench
from .resident import forget_most, most_mb, now_mb

AHEAD = 5_000
"""So far the emits may be ahead of a subscriber that is not stuck: as with a training, whose
steps leave the pump time."""
WARM = 2_000


def main() -> None:
    """Emits, and prints what the process has grown by."""
    kind, events = sys.argv[1], int(sys.argv[2])
    bench = Bench(0)
    release = threading.Event()
    seen = 0

    @bench.bus.subscribe("step_end", name="pace")
    def count(event: Event) -> None:
        nonlocal seen
        seen += 1

    for _ in range(WARM // 1_000):
        bench.emit_batch(1_000)
    bench.bus.flush(30)

    @bench.bus.subscribe("step_end", name="subject")
    def handle(event: Event) -> None:
        if kind == "stuck":
            release.wait()

    forget_most()
    before = now_mb()
    for emitted in range(0, events, 1_000):
        bench.emit_batch(1_000)
        while WARM + emitted - seen > AHEAD:
            time.sleep(0.001)
    # One that keeps up has had them all, so that one that does not has them all before it.
    while seen < WARM + events:
        time.sleep(0.001)
    after = most_mb()
    rows = {row.subscriber: row for row in bench.bus.ledger}
    row = rows["subject"]
    result = {
        "mb": after - before,
        "before_mb": before,
        "handled": row.handled,
        "pending": row.pending,
        "dropped": row.num_dropped,
    }
    print(json.dumps(result), flush=True)
    release.set()
    bench.bus.close(1)


if __name__ == "__main__":
    main()
