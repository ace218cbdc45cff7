"""An asyncio program that follows a run, and stops it by a vote.

python examples/follow_asyncio.py
"""

import asyncio

from training import train

from stepbus import EventBus, Log


async def main() -> None:
    async with EventBus() as bus, asyncio.TaskGroup() as tasks:
        events = bus.events("log", "verdict", until="train_end")
        # In a task group, so that a training that fails ends the loop below as well.
        training = tasks.create_task(asyncio.to_thread(train, bus))
        async for event in events:
            print(f"{event.name} at step {event.step}")
            if isinstance(event, Log) and event.step == 40:
                bus.vote("stop", reason="seen enough")
        print(f"last loss {await training:.3f}")


asyncio.run(main())
