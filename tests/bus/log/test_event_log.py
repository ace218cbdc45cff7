"""The log as a whole: written by its own thread, read from cursors, kept or thrown away."""

import gc
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepbus.bus.log import Cursor, Damage, EventLog, LogReader, LogRecord
from stepbus.bus.log.scratch import LOCK, PREFIX, Scratch
from stepbus.schemas import StepbusError


def payload(number: int) -> bytes:
    return b'{"name":"step_end","seq":%d}' % number


def numbers(records: list[LogRecord]) -> list[int]:
    return [json.loads(record.payload)["seq"] for record in records]


def read_all(cursor: Cursor) -> list[int]:
    found: list[int] = []
    while records := cursor.read(100):
        found += numbers(records)
    return found


@pytest.fixture
def temporary() -> Iterator[EventLog]:
    log = EventLog(segment_bytes=2_000)
    yield log
    for cursor in list(log._cursors.values()):
        cursor.close()
    log.close()


@pytest.fixture(autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for temporary files that no other process uses."""
    former, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("temporary"))
    yield
    tempfile.tempdir = former


def folders() -> set[str]:
    return {p.name for p in Path(tempfile.gettempdir()).glob(f"{PREFIX}*")}


def test_a_log_that_nobody_writes_to_costs_no_thread_and_no_folder() -> None:
    before = folders()
    log = EventLog()
    cursor = log.cursor()
    assert cursor.read() == []
    assert log.folder is None
    assert [t.name for t in threading.enumerate() if t.name == "stepbus-log"] == []
    cursor.close()
    log.close()
    assert folders() == before


def test_what_was_appended_is_read_in_order_written_or_not(temporary: EventLog) -> None:
    cursor = temporary.cursor()
    for number in range(100):
        assert temporary.append(payload(number)) == number
    first = numbers(cursor.read(10))
    assert 1 <= len(first) <= 10
    assert temporary.flush(10)
    assert temporary.num_unwritten == 0
    assert first + read_all(cursor) == list(range(100))
    assert temporary.append(payload(100)) == 100
    assert read_all(cursor) == [100]
    assert cursor.num_missing == 0


def test_a_cursor_sees_whom_a_record_is_for(temporary: EventLog) -> None:
    one, other = temporary.cursor(), temporary.cursor()
    temporary.append(payload(0), (one.number, other.number))
    temporary.append(payload(1), (other.number,))
    temporary.append(payload(2))
    assert temporary.flush(10)
    assert [record.to for record in one.read()] == [(1, 2), (2,), ()]


def test_segments_go_once_every_cursor_has_passed_them(temporary: EventLog) -> None:
    ahead, behind = temporary.cursor(), temporary.cursor()
    for number in range(1_000):
        temporary.append(payload(number))
        if number % 20 == 0:
            assert temporary.flush(10)
    assert temporary.flush(10)
    folder = temporary.folder
    assert folder is not None
    num_segments = len(list(folder.glob("*.jsonl")))
    assert num_segments > 5
    assert len(read_all(ahead)) == 1_000
    ahead.commit()
    assert temporary.flush(10)
    assert len(list(folder.glob("*.jsonl"))) == num_segments
    seen: list[int] = []
    while len(seen) < 500:
        seen += numbers(behind.read(100))
    behind.commit()
    temporary.append(payload(1_000))
    assert temporary.flush(10)
    assert len(list(folder.glob("*.jsonl"))) < num_segments / 2 + 2
    assert seen + read_all(behind) == list(range(1_001))
    behind.close()
    ahead.close()
    temporary.close()
    assert not folder.exists()


def test_what_all_cursors_have_read_is_not_written(temporary: EventLog) -> None:
    cursor = temporary.cursor()
    temporary.append(payload(0))
    cursor.read()
    cursor.commit()
    assert temporary.flush(10)
    assert temporary.disk_bytes == 0


def test_a_temporary_log_stays_for_those_who_still_read_it() -> None:
    log = EventLog()
    cursor = log.cursor()
    for number in range(50):
        log.append(payload(number))
    log.close()
    assert read_all(cursor) == list(range(50))
    folder = log.folder
    assert folder is not None
    assert folder.exists()
    cursor.close()
    assert not folder.exists()


def test_a_closed_log_may_be_appended_to_again() -> None:
    log = EventLog()
    for round_ in range(3):
        cursor = log.cursor()
        log.append(payload(round_))
        assert log.flush(10)
        assert read_all(cursor) == [round_]
        cursor.close()
        log.close()
    assert log.folder is None


def test_a_log_that_is_let_go_of_takes_its_folder_along() -> None:
    log = EventLog()
    cursor = log.cursor()
    log.append(payload(0))
    assert log.flush(10)
    assert read_all(cursor) == [0]
    folder = log.folder
    assert folder is not None
    thread = next(t for t in threading.enumerate() if t.name == "stepbus-log")
    cursor._leave_segment()
    del log, cursor
    thread.join(10)
    gc.collect()
    assert not folder.exists()


def test_a_kept_log_goes_on_where_the_last_ended(tmp_path: Path) -> None:
    for attempt in range(3):
        log = EventLog(tmp_path / "log")
        assert log.next == attempt * 10
        for number in range(attempt * 10, attempt * 10 + 10):
            assert log.append(payload(number)) == number
        cursor = log.cursor(0)
        assert read_all(cursor) == list(range(attempt * 10 + 10))
        cursor.close()
        log.close()
    records = list(LogReader(tmp_path / "log"))
    assert [record.at for record in records] == list(range(30))
    assert numbers(records) == list(range(30))
    assert len(list((tmp_path / "log").glob("*.jsonl"))) == 3
    assert numbers(list(LogReader(tmp_path / "log", start=17))) == list(range(17, 30))


def test_a_folder_without_a_log_is_said(tmp_path: Path) -> None:
    with pytest.raises(StepbusError, match="There is no log in"):
        LogReader(tmp_path)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 30)),
        st.tuples(st.just("read"), st.integers(1, 40)),
        st.tuples(st.just("other"), st.integers(1, 40)),
        st.just(("flush", 0)),
        st.just(("commit", 0)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS, st.integers(100, 3_000))
def test_cursors_lose_nothing_and_see_nothing_twice(
    operations: list[tuple[str, int]], segment_bytes: int
) -> None:
    log = EventLog(segment_bytes=segment_bytes)
    one, other = log.cursor(), log.cursor()
    seen: dict[str, list[int]] = {"read": [], "other": []}
    appended = 0
    try:
        for operation, count in operations:
            if operation == "append":
                for _ in range(count):
                    log.append(payload(appended))
                    appended += 1
            elif operation == "flush":
                assert log.flush(10)
            elif operation == "commit":
                one.commit()
                other.commit()
            else:
                cursor = one if operation == "read" else other
                seen[operation] += numbers(cursor.read(count))
        seen["read"] += read_all(one)
        log.close()
        seen["other"] += read_all(other)
        assert seen == {"read": list(range(appended)), "other": list(range(appended))}
        assert one.num_missing == other.num_missing == 0
    finally:
        one.close()
        other.close()
        log.close()


def written(folder: Path, count: int) -> Path:
    log = EventLog(folder)
    for number in range(count):
        log.append(payload(number))
    log.close()
    return next(iter(folder.glob("*.jsonl")))


def test_a_log_torn_at_any_byte_reads_up_to_there_and_is_gone_on_with(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", 3).read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        folder = tmp_path / f"torn-{size}"
        folder.mkdir()
        (folder / "000000000000.jsonl").write_bytes(whole[:size])
        damages: list[Damage] = []
        reader = LogReader(folder, report=damages.append)
        # A line that only misses its line break is whole.
        expected = sum(end - 1 <= size for end in ends[1:])
        assert numbers(list(reader)) == list(range(expected))
        assert damages == []
        on_a_border = size == 0 or size in ends or size + 1 in ends
        assert (reader.torn is not None) == (not on_a_border)
        log = EventLog(folder)
        assert log.append(payload(expected)) == expected
        log.close()
        reader = LogReader(folder, report=damages.append)
        assert numbers(list(reader)) == list(range(expected + 1))
        assert damages == []
        assert reader.torn is None


def test_a_damaged_line_is_told_with_file_line_and_gap_and_read_over(tmp_path: Path) -> None:
    path = written(tmp_path, 10)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"step_end", b"step_und")  # Position 3.
    lines[6] = lines[6][:20] + b"\n"  # Positions 5 and 6.
    lines[7] = b"\0" * 30 + b"\n"
    path.write_bytes(b"".join(lines))
    damages: list[Damage] = []
    assert numbers(list(LogReader(tmp_path, report=damages.append))) == [0, 1, 2, 4, 7, 8, 9]
    assert damages == [
        Damage(path, 5, 5, "its checksum is wrong", 3, 1),
        Damage(path, 7, 8, "it is no record of the log", 5, 2),
    ]
    assert str(damages[1]).startswith(f"{path}, lines 7 to 8: it is no record")


def test_a_lost_segment_and_a_damaged_header_are_seen(tmp_path: Path) -> None:
    for _ in range(3):
        written(tmp_path, 5)
    paths = sorted(tmp_path.glob("*.jsonl"))
    paths[1].unlink()
    paths[2].write_bytes(b"?" + paths[2].read_bytes())
    damages: list[Damage] = []
    records = list(LogReader(tmp_path, report=damages.append))
    assert [record.at for record in records] == [*range(5), *range(10, 15)]
    assert [(d.path, d.first, d.num_lost) for d in damages] == [(paths[2], 5, 5), (paths[2], 10, 0)]


def test_damage_is_said_where_nobody_asks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, 3)
    path.write_bytes(path.read_bytes().replace(b'"seq":1', b'"seq":7'))
    assert numbers(list(LogReader(tmp_path))) == [0, 2]
    assert f"{path}, line 3: its checksum is wrong; from position 1 on, 1 missing" in caplog.text


def test_events_come_back_whole_also_of_kinds_that_nobody_knows(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(b'{"name":"log","seq":0,"step":3,"logs":{"loss":"NaN"},"of_later":1}')
    log.append(b'{"name":"from_the_future","seq":1,"thing":[1,2]}')
    log.append_record(b'{"values":{}}', (), "state")
    log.close()
    first, second = LogReader(tmp_path).events()
    assert (first.name, first.step, first.schema_version) == ("log", 3, 1)
    assert (second.name, getattr(second, "thing", None)) == ("from_the_future", (1, 2))


def test_a_cursor_reads_over_what_is_damaged_or_gone(
    temporary: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    cursor = temporary.cursor()
    for number in range(200):
        temporary.append(payload(number))
        if number % 10 == 0:
            assert temporary.flush(10)
    assert temporary.flush(10)
    segments = temporary.segments.all
    segments[0].path.write_bytes(segments[0].path.read_bytes().replace(b'"seq":3}', b'"seq":9}'))
    segments[1].path.unlink()
    seen = read_all(cursor)
    gone = range(segments[1].first, segments[2].first)
    assert seen == [n for n in range(200) if n != 3 and n not in gone]
    cursor.close()
    assert cursor.num_missing == 1 + len(gone)
    assert "line 5: its checksum is wrong" in caplog.text
    assert "cannot be read" in caplog.text


def test_the_folder_of_a_killed_process_is_removed_by_the_next() -> None:
    dead, alive = Scratch(), Scratch()
    folder, kept = dead.make(), alive.make()
    assert dead._lock is not None
    os.close(dead._lock)  # As the system does when the process dies.
    dead._lock = None
    (folder / "000000000000.jsonl").write_bytes(b"x")
    other = Scratch()
    other.make()
    assert not folder.exists()
    assert (kept / LOCK).exists()
    alive.remove()
    other.remove()
    assert not kept.exists()


def test_a_cursor_far_into_a_segment_reads_on_from_a_place_before_it() -> None:
    log = EventLog()
    cursor, other = log.cursor(), log.cursor()
    for number in range(6_000):
        log.append(payload(number))
    seen: list[int] = []
    while len(seen) < 5_000:
        seen += numbers(cursor.read(1_000))
    assert log.flush(10)
    places = log.segments.all[0]._places
    assert len(places) > 2
    for number in range(6_000, 6_010):
        log.append(payload(number))
    assert seen + read_all(cursor) == list(range(6_010))
    middle = log.cursor(4_321)
    assert numbers(middle.read(1)) == [4_321]
    assert read_all(other) == list(range(6_010))
    for each in (cursor, other, middle):
        each.close()
    log.close()


def test_a_temporary_log_leaves_some_of_the_disk_to_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = EventLog(spare_bytes=1 << 62)
    cursor = log.cursor()
    log.append(payload(0))
    assert not log.flush(0.2)
    assert "GB are left to checkpoints" in log.failing
    assert log.disk_bytes == 0
    assert "the log cannot be written to" in caplog.text
    assert read_all(cursor) == [0]
    cursor.close()
    log.close()


def test_a_kept_log_uses_the_disk_that_it_was_given(tmp_path: Path) -> None:
    log = EventLog(tmp_path, spare_bytes=1 << 62)
    log.append(payload(0))
    assert log.flush(10)
    log.close()
    assert numbers(list(LogReader(tmp_path))) == [0]
