"""In a forked child (a data-loader worker, say) every bus is inert."""

from __future__ import annotations

import os
import weakref
from typing import Any, NoReturn, Protocol

from ..schemas.errors import BusClosedError


class Inertable(Protocol):
    """What is made inert after a fork."""

    def make_inert(self) -> None:
        """Called in the child, which has none of the parent's threads. Must take no lock."""


_buses: weakref.WeakSet[Any] = weakref.WeakSet()


def register(bus: Inertable) -> None:
    """Makes a bus inert in every child forked from now on."""
    _buses.add(bus)


def refuse(*_args: object, **_kwargs: object) -> NoReturn:
    """What stands in for emitting, publishing and voting in a forked child."""
    raise BusClosedError(
        "This process was forked from the one that trains, and the bus does not work in it: return "
        "the value to the training process (a data-loader worker: in its batch), and log, publish "
        "or vote there."
    )


def _after_fork_in_child() -> None:
    for bus in list(_buses):
        bus.make_inert()


os.register_at_fork(after_in_child=_after_fork_in_child)
