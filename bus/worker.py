"""What the bus asks of whoever runs a subscription's handlers."""

from __future__ import annotations

import threading
from typing import Protocol

from .handling import Handling
from .mailbox import Mailbox
from .subscription import Subscription


class Worker(Protocol):
    """A delivery: takes events from a mailbox and has handlers called."""

    subscription: Subscription
    mailbox: Mailbox
    handling: Handling
    ready: threading.Event
    """Set when set-up is over, well or not."""
    finished: threading.Event
    """Set when teardown is over."""
    error: BaseException | None
    """What set-up raised."""
    phase: str
    """Where it is: open(), handlers or close()."""
