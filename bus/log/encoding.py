"""An event as the log writes it: its JSON, less what every line would repeat."""

from __future__ import annotations

import pydantic_core

from ...schemas import Event
from ...schemas.event import SCHEMA_VERSION

_PLAIN = {"unresolved", "schema_version"}
_OTHER_VERSION = {"unresolved"}
_UNRESOLVED = {"schema_version"}


def encode(event: Event) -> bytes:
    """The event's JSON without an empty `unresolved` and without the schema version that the
    segment's header names. Never fails; see `Event.to_json`.
    """
    if event.schema_version != SCHEMA_VERSION:
        left_out = set() if event.unresolved else _OTHER_VERSION
    else:
        left_out = _UNRESOLVED if event.unresolved else _PLAIN
    try:
        return event.__pydantic_serializer__.to_json(event, exclude=left_out)
    except pydantic_core.PydanticSerializationError:
        return event.to_json()
