"""A program that emits a step every millisecond, to be killed: `emitting.py FOLDER HOW`.

When each step was emitted stands in a file that outlives it, mapped into memory.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from pathlib import Path

from stepbus.bus import EventBus, Subscriber
from stepbus.schemas import TrainerState
from tests.bus.sidecar.handlers import RunsSeen, Stuck, Writer

MOST = 100_000
SLOT = struct.Struct("d")


def emitted(folder: Path) -> list[float]:
    """When each step was emitted, by its number less one; seconds since 1970."""
    data = (folder / "emitted").read_bytes()
    times = [SLOT.unpack_from(data, SLOT.size * step)[0] for step in range(MOST)]
    return times[: times.index(0.0)]


def main(folder: Path, how: str) -> None:
    """Emits until it is killed, or as `how` says."""
    (folder / "emitted").write_bytes(bytes(SLOT.size * MOST))
    with (folder / "emitted").open("r+b") as file:
        times = mmap.mmap(file.fileno(), 0)
    subscribers: dict[str, Subscriber] = {
        "writer": Writer(str(folder / "writer")),
        "runs": RunsSeen(str(folder / "runs")),
    }
    if how == "stuck":
        subscribers["stuck"] = Stuck(str(folder / "stuck"))
    bus = EventBus()
    for name, subscriber in subscribers.items():
        bus.subscribe(subscriber, delivery="process", name=name, required=True)
    bus.start()
    ended = bus.open_run(TrainerState(), run_id="ended")
    ended.emit("train_begin")
    ended.emit("train_end")
    if how == "closed":
        bus.close_run(ended)
    link = bus.open_run(TrainerState(), run_id="open")
    link.emit("train_begin")
    if how == "forks" and os.fork() == 0:
        # As a worker of a data loader that outlives it for a while, with all that is open here.
        time.sleep(30)
        os._exit(0)
    print("EMITTING", flush=True)
    step = 0
    while True:
        step += 1
        link.state.global_step = step
        SLOT.pack_into(times, SLOT.size * (step - 1), time.time())
        link.emit("step_end")
        if how == "exits" and step == 300:
            os._exit(7)
        time.sleep(0.001)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
