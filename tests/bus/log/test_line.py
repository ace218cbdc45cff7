"""A line of the log: what it holds, what it costs, and that no damage to it goes unnoticed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.bus.log import LogRecord, encode
from stepbus.bus.log.line import header_of, line_of, parse_header, parse_line
from stepbus.schemas import Event, Log, StepbusError, StepEnd
from stepbus.schemas.event import parse_event

PAYLOADS = st.dictionaries(
    st.text(max_size=8), st.one_of(st.integers(), st.text(), st.none()), max_size=5
).map(lambda values: json.dumps(values).encode())
RECORDS = st.builds(
    LogRecord,
    at=st.integers(0, 10**12),
    payload=PAYLOADS,
    to=st.lists(st.integers(0, 10**6), max_size=4).map(tuple),
    kind=st.sampled_from(["event", "state"]),
)


@given(RECORDS)
def test_a_record_comes_back_from_its_line(record: LogRecord) -> None:
    line = line_of(record)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert parse_line(line) == record
    assert parse_line(line[:-1]) == record
    values = json.loads(line)
    assert values["at"] == record.at
    assert values[record.kind] == json.loads(record.payload)


@given(RECORDS, st.data())
def test_no_changed_byte_goes_unnoticed(record: LogRecord, data: st.DataObject) -> None:
    line = bytearray(line_of(record))
    # The position is not part of the checksum: readers see by its order that it is wrong.
    start = line.index(b",")
    place = data.draw(st.integers(start, len(line) - 2))
    line[place] ^= data.draw(st.integers(1, 255))
    assert isinstance(parse_line(bytes(line)), str)


@given(RECORDS, st.data())
def test_no_shortened_line_is_a_record(record: LogRecord, data: st.DataObject) -> None:
    line = line_of(record)
    assert isinstance(parse_line(line[: data.draw(st.integers(0, len(line) - 2))]), str)


def test_fields_and_kinds_of_a_later_version_are_read_over() -> None:
    import zlib

    def line(body: bytes) -> bytes:
        return b'{"at":5,"crc":"%08x",%b}\n' % (zlib.crc32(body), body)

    body = b'"host":"a","event":{"name":"x"}'
    assert parse_line(line(body)) == LogRecord(5, b'{"name":"x"}')
    body = b'"mark":{"why":1}'
    assert parse_line(line(body)) == LogRecord(5, b'{"why":1}', (), "mark")


def test_a_header_says_where_a_segment_begins() -> None:
    header = parse_header(header_of(17), "here")
    assert header is not None
    assert (header.version, header.first, header.schema_version) == (1, 17, 1)
    for damaged in (b"", b"{}\n", b"[1]\n", b'{"log":"stepbus"}\n', header_of(17)[:-5]):
        assert parse_header(damaged, "here") is None


def test_a_log_of_a_newer_format_is_refused_by_name() -> None:
    line = header_of(0).replace(b'"version":1', b'"version":7')
    with pytest.raises(StepbusError, match=r"here is a log of format 7.* update stepbus"):
        parse_header(line, "here")


@given(
    st.builds(
        StepEnd,
        seq=st.integers(0, 10**9),
        loss=st.none() | st.floats(),
        step_s=st.floats(allow_nan=False),
        unresolved=st.lists(st.text(max_size=5), max_size=2).map(tuple),
        schema_version=st.integers(1, 3),
    )
)
def test_an_encoded_event_is_its_json_less_what_every_line_would_repeat(event: StepEnd) -> None:
    encoded = json.loads(encode(event))
    whole = json.loads(event.to_json())
    assert {"schema_version": 1, "unresolved": [], **encoded} == whole
    assert repr(parse_event(encode(event))) == repr(event)


def test_what_json_cannot_spell_is_encoded_all_the_same() -> None:
    event = Log(logs={"name": "\udce4"})
    assert json.loads(encode(event))["logs"] == {"name": "\\udce4"}


def test_a_line_of_values_that_are_logged_each_step_is_at_most_300_bytes() -> None:
    event: Any = Log(
        run_id="0123456789ab",
        seq=123_456,
        time=1_795_579_486.1328714,
        monotonic=12_541.248832797,
        step=41_152,
        epoch=2.3457,
        logs={
            "loss": 1.2345678806304932,
            "grad_norm": 0.07387854001624672,
            "learning_rate": 8.681973141170432e-05,
        },
    )
    assert isinstance(event, Event)
    assert len(line_of(LogRecord(123_456, encode(event)))) <= 300
