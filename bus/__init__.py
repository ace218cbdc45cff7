"""How it gets there: subscribe, emit, pump, mailboxes, delivery, control channel, log, ledger."""

from .control_channel import ControlChannel, LocalTransport, RunControl, VoteTransport
from .deferred import Deferred
from .event_bus import EventBus
from .event_stream import EventStream
from .filters import Filter
from .lease import Lease
from .ledger import Ledger, LedgerRow
from .mailbox import Mailbox, Overflow
from .run_account import RunCost
from .run_link import RunLink
from .subscriber import Subscriber, TrainerCallback, on

__all__ = [
    "ControlChannel",
    "Deferred",
    "EventBus",
    "EventStream",
    "Filter",
    "Lease",
    "Ledger",
    "LedgerRow",
    "LocalTransport",
    "Mailbox",
    "Overflow",
    "RunControl",
    "RunCost",
    "RunLink",
    "Subscriber",
    "TrainerCallback",
    "VoteTransport",
    "on",
]
