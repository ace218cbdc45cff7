"""How it gets there: subscribe, emit, pump, mailboxes, delivery, control channel, ledger."""

from .control_channel import ControlChannel, LocalTransport, RunControl, VoteTransport
from .deferred import Deferred
from .event_bus import EventBus
from .event_stream import EventStream
from .filters import Filter
from .lease import Lease
from .ledger import LedgerRow
from .mailbox import Mailbox, Overflow
from .run_link import RunLink
from .subscriber import Subscriber, TrainerCallback, on

__all__ = [
    "ControlChannel",
    "Deferred",
    "EventBus",
    "EventStream",
    "Filter",
    "Lease",
    "LedgerRow",
    "LocalTransport",
    "Mailbox",
    "Overflow",
    "RunControl",
    "RunLink",
    "Subscriber",
    "TrainerCallback",
    "VoteTransport",
    "on",
]
