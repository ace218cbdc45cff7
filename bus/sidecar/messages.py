"""What the trainer and a sidecar say to each other: lines of JSON over two pipes.

To the sidecar, in this order of a subscriber's life (`to` is its number):

    start      trainer (its process id), path (sys.path); the first line of all
    open       to, recipe, name, options, at (the position of the first event that follows),
               whereabouts (what another one, whose place it takes, has told)
    run        run_id, attempt, rank, open: a run was opened or closed
    rows       source, rows: further rows of the history of a run's state
    forget     source: a history that is not spoken of any more
    events     to, count, again (they tell once more how runs began), and of the state: source, rows
               (how many each of them has; one number where all have the same), values where they
               have changed; `count` lines of events follow
    close      to: handle what you have, tear down
    abandon    to: leave what you have, tear down
    leave      to: let go of it wherever its thread stands
    end        nothing more will come: leave once all are closed

Back from it (`of` is the subscriber's number, `at` the position of an event in its stream):

    ready      of, error: set-up is over
    done       of, upto (all events before this position are dealt with), account
    vote       of, at, index (of several for one event), vote
    measured   of, at, values: for the next log of the run that the event is of
    failed     of, at, error, account
    timed_out  of, at, error, stack, account
    held       of, at, holder; and released: the lease of a checkpoint
    whereabouts  of, found: where a tracker writes
    closed     of, account
    say        level, text: a message of stepbus's own
"""

from __future__ import annotations

import json
from typing import Any

import pydantic_core

from ...schemas.values import encodable

Message = dict[str, Any]


def encode(kind: str, **fields: Any) -> bytes:
    """A message as a line. Never fails: what JSON cannot spell is written as its text."""
    fields["kind"] = kind
    try:
        line = pydantic_core.to_json(fields, inf_nan_mode="constants", fallback=str)
    except pydantic_core.PydanticSerializationError:
        line = pydantic_core.to_json(encodable(fields), inf_nan_mode="constants", fallback=str)
    return line + b"\n"


def decode(line: bytes) -> Message:
    """The message in a line."""
    message: Message = json.loads(line)
    return message


class Lines:
    """Puts the pieces that a pipe gives together to whole lines."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> list[bytes]:
        """The lines that are whole by now, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines
