"""The lines of the log's files: how a record is written down, and read back with its checksum."""

from __future__ import annotations

import re
import time
import zlib
from typing import Any, NamedTuple

import pydantic_core

from ...schemas.errors import StepbusError
from ...schemas.event import SCHEMA_VERSION

VERSION = 1
"""Of the format. A reader refuses a higher one; new fields alone do not raise it."""

_START = re.compile(rb'\{"at":(\d{1,18}),"crc":"([0-9a-f]{8})",')
_TO = re.compile(rb'"to":\[(\d[\d,]*)\],')
_KIND = re.compile(rb'"([a-z_]+)":')
_EVENT = b'"event":'
_EVENT_WITHIN = 80
MOST_HEADS = 256
_heads: dict[bytes, tuple[int, ...]] = {b"": ()}
"""What stands before an event, read once and looked up from then on."""


class LogRecord(NamedTuple):
    """One record of the log."""

    at: int
    """Its position: dense from 0, so that a gap means loss."""
    payload: bytes
    """The event's JSON, or what else the record holds."""
    to: tuple[int, ...] = ()
    """Numbers of the cursors that it was written for; of no meaning outside of the process."""
    kind: str = "event"
    """What the payload is: an event, or what a later version may write."""


class Header(NamedTuple):
    """The first line of a segment."""

    version: int
    first: int
    """Position of the segment's first record."""
    schema_version: int
    """That of every event in the segment that names no other."""


def line_of(record: LogRecord) -> bytes:
    """A record as its line."""
    at, payload, to, kind = record
    if to or kind != "event":
        body = b'"%b":%b' % (kind.encode(), payload)
        if to:
            body = b'"to":[%b],%b' % (b",".join([b"%d" % number for number in to]), body)
    else:
        body = b'"event":' + payload
    return b'{"at":%d,"crc":"%08x",%b}\n' % (at, zlib.crc32(body), body)


def parse_line(line: bytes) -> LogRecord | str:
    """The record of a whole line, or what is wrong with the line."""
    start = _START.match(line)
    if start is None:
        return "it is no record of the log"
    end = len(line) - 1 if line.endswith(b"\n") else len(line)
    if line[end - 1 : end] != b"}":
        return "its end is missing"
    body = line[start.end() : end - 1]
    if zlib.crc32(body) != int(start[2], 16):
        return "its checksum is wrong"
    at = int(start[1])
    place = body.find(_EVENT, 0, _EVENT_WITHIN)
    to = _heads.get(body[:place]) if place >= 0 else None
    if to is not None:
        return LogRecord(at, body[place + len(_EVENT) :], to)
    return _parse_body(at, body)


def _parse_body(at: int, body: bytes) -> LogRecord | str:
    to: tuple[int, ...] = ()
    found = _TO.match(body)
    rest = body
    if found is not None:
        to = tuple(int(number) for number in found[1].split(b","))
        rest = body[found.end() :]
    kind = _KIND.match(rest)
    if kind is None or kind[1] not in (b"event", b"state"):
        return _of_a_later_version(at, to, rest)
    if found is not None and kind[1] == b"event" and len(_heads) < MOST_HEADS:
        _heads[found[0]] = to
    return LogRecord(at, rest[kind.end() :], to, kind[1].decode())


def _of_a_later_version(at: int, to: tuple[int, ...], body: bytes) -> LogRecord | str:
    """A record with fields, or of a kind, that this version does not write."""
    try:
        values: dict[str, Any] = pydantic_core.from_json(b"{" + body + b"}")
    except ValueError:
        return "it is no JSON"
    if "event" in values:
        return LogRecord(at, pydantic_core.to_json(values["event"]), to)
    kind = next(iter(values), "")
    return LogRecord(at, pydantic_core.to_json(values.get(kind)), to, kind)


def header_of(first: int) -> bytes:
    """The first line of a segment that begins at a position."""
    return b'{"log":"stepbus","version":%d,"schema_version":%d,"first":%d,"time":%.3f}\n' % (
        VERSION,
        SCHEMA_VERSION,
        first,
        time.time(),
    )


def parse_header(line: bytes, source: object) -> Header | None:
    """The header that a line is; None for one that is none, or is damaged.

    Raises:
        StepbusError: a newer stepbus wrote the segment, in a format that this one cannot read.
    """
    try:
        values = pydantic_core.from_json(line)
        if values["log"] != "stepbus":
            return None
        header = Header(int(values["version"]), int(values["first"]), int(values["schema_version"]))
    except (ValueError, KeyError, TypeError):
        return None
    if header.version > VERSION:
        raise StepbusError(
            f"{source} is a log of format {header.version}, and this stepbus reads up to "
            f"{VERSION}: update stepbus to read it."
        )
    return header
