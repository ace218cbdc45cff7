"""A trio program that follows a run.

python examples/follow_trio.py
"""

import trio
from training import train

from stepbus import EventBus


async def main() -> None:
    async with EventBus() as bus, trio.open_nursery() as nursery:
        events = bus.events("log", until="train_end")
        nursery.start_soon(trio.to_thread.run_sync, train, bus)
        async for event in events:
            print(f"{event.name} at step {event.step}")


trio.run(main)
