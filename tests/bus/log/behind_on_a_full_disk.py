"""A subscriber that falls behind while the disk is full; run by test_full_disk.py."""

from __future__ import annotations

import json
import resource
import signal
import threading

from stepbus.bus import EventBus
from stepbus.schemas import Event, TrainerState


def main() -> None:
    """Emits with a full disk, then with room again, and says what the subscriber got."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    release = threading.Event()
    steps: list[int] = []
    evaluations: list[int] = []
    bus = EventBus(drain_timeout=60.0)

    @bus.subscribe("step_end", "evaluate", mailbox_size=100, name="behind")
    def behind(event: Event) -> None:
        release.wait()
        (steps if event.name == "step_end" else evaluations).append(event.step)

    other: list[int] = []

    @bus.subscribe("evaluate")
    def served(event: Event) -> None:
        other.append(event.step)

    bus.start()
    link = bus.open_run(TrainerState())
    pump = bus._pump
    assert pump is not None

    def emit(count: int) -> None:
        for _ in range(count):
            link.state.global_step += 1
            link.emit("step_end", {"loss": 1.0})
            if link.state.global_step % 1_000 == 0:
                link.emit("evaluate", {"metrics": {"eval_loss": 1.0}})
                assert pump.drain(30)
        assert pump.drain(30)

    resource.setrlimit(resource.RLIMIT_FSIZE, (8, most))
    emit(60_000)
    dropped = bus.ledger["behind"].dropped["disk"]
    failing = bus.event_log.failing
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert bus.event_log.flush(30)
    emit(5_000)
    release.set()
    assert bus.flush(60)
    row = bus.ledger["behind"]
    bus.close()
    print(
        json.dumps(
            {
                "failing": failing,
                "dropped_while_full": dropped,
                "dropped": row.dropped,
                "accepted": row.accepted,
                "handled": row.handled,
                "in_order": steps == sorted(set(steps)),
                "last": steps[-5_000:] == list(range(60_001, 65_001)),
                "evaluations": evaluations == other == list(range(1_000, 65_001, 1_000)),
            }
        )
    )


if __name__ == "__main__":
    main()
