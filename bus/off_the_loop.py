"""Reading on from the log for those who run on an event loop, which must not wait for the disk."""

from __future__ import annotations

import anyio
import anyio.to_thread

from .mailbox import Mailbox


async def read_on(mailbox: Mailbox) -> bool:
    """Takes what comes next out of the log; False where nothing is to be read just now."""
    if not mailbox.can_read_on:
        return False
    await anyio.to_thread.run_sync(mailbox.read_on, limiter=anyio.CapacityLimiter(1))
    return True
