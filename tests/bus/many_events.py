"""A million events for a subscriber that does not keep up; run by test_many_events.py."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from stepbus.bus import EventBus
from stepbus.schemas import StepEnd, TrainerState

NUM = 1_000_000
PAGE = 4096
AT_ONCE = 2_000
"""Events between two looks, at which the pump is waited for: a loop that trains is not as fast."""


def resident_mb() -> float:
    """The memory that this process has, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


class Counting:
    """Handles step_end, once it may; notes whether they come in order."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.num = 0
        self.in_order = True
        self.of_its_state = True

    def __call__(self, event: StepEnd) -> None:
        self.may_go_on.wait()
        self.in_order &= event.step == self.num + 1 == event.seq + 1
        self.num += 1
        if self.num % 1_000 == 0:
            state = event.state
            self.of_its_state &= (state.global_step, state.max_steps) == (self.num, NUM)


def main(case: str) -> None:
    """Emits them and prints what became of them."""
    bus = EventBus(drain_timeout=100.0)
    counting = Counting()
    bus.subscribe("step_end", name="it")(counting)
    bus.start()
    link = bus.open_run(TrainerState(max_steps=NUM), run_id="run")
    emitter, state = link.emitters["step_end"], link.state
    pump = bus._pump
    assert pump is not None
    values = {"loss": 1.5, "grad_norm": 0.1, "learning_rate": 1e-3, "step_s": 4e-4}
    began = time.perf_counter()
    start, most, most_disk = resident_mb(), 0.0, 0
    for number in range(0, NUM, AT_ONCE):
        for _ in range(AT_ONCE):
            state.global_step += 1
            emitter.emit(values)
        assert pump.drain(60)
        most = max(most, resident_mb())
        most_disk = max(most_disk, bus.event_log.disk_bytes)
        if case == "slow" and number == NUM * 3 // 4:
            counting.may_go_on.set()
    waiting = bus.ledger["it"].pending
    if case == "slow":
        assert bus.flush(100)
        most = max(most, resident_mb())
    emitted_s = time.perf_counter() - began
    bus.close(timeout=1.0)
    row = bus.ledger["it"]
    print(
        json.dumps(
            {
                "start_mb": start,
                "growth_mb": most - start,
                "disk_mb": most_disk / 1e6,
                "waiting_after_emission": waiting,
                "handled": row.handled,
                "spilled": row.spilled,
                "dropped": row.dropped,
                "in_order": counting.in_order,
                "of_its_state": counting.of_its_state,
                "seconds": emitted_s,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1])
