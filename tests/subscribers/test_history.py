"""The history files: what a program finds in them, over attempts and crashes."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepbus.schemas import Log, parse_event
from stepbus.subscribers import CSVHistory, JSONLHistory


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def events(path: Path) -> list[Log]:
    parsed = [parse_event(line) for line in path.read_bytes().splitlines()]
    return [event for event in parsed if isinstance(event, Log)]


def test_logs_become_rows_with_a_column_for_each_name(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = live_run(CSVHistory(), run_id="r")
    run.emit("train_begin", output_dir=str(tmp_path))
    run.log(1, loss=2.5)
    run.log(1, eval_loss=2.25, note='quoted, "twice"\nand on')
    run.log(2, loss=math.nan, grad_norm=math.inf)
    run.finish()
    path = tmp_path / "history.csv"
    header = path.read_text(encoding="utf-8").splitlines()[0]
    assert header == "step,epoch,attempt,time,loss,eval_loss,note,grad_norm"
    first, second, third = rows(path)
    assert (first["step"], first["attempt"], first["loss"]) == ("1", "1", "2.5")
    assert first["eval_loss"] == first["grad_norm"] == ""
    assert (second["eval_loss"], second["note"]) == ("2.25", 'quoted, "twice"\nand on')
    assert (third["loss"], third["grad_norm"]) == ("nan", "inf")
    assert float(first["time"]) > 1e9


def test_a_resumed_run_drops_the_rows_that_it_supersedes(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = live_run(CSVHistory(), JSONLHistory(), run_id="r")
    run.emit("train_begin", output_dir=str(tmp_path))
    for step in (10, 20, 30):
        run.log(step, loss=float(step))
    run.finish()
    run = live_run(CSVHistory(), JSONLHistory(), run_id="r", attempt=2)
    run.emit("train_begin", 20, output_dir=str(tmp_path), resumed_from="checkpoint-20")
    run.log(30, loss=-30.0, extra=1.0)
    run.finish()
    table = rows(tmp_path / "history.csv")
    assert [(row["step"], row["attempt"], row["loss"]) for row in table] == [
        ("10", "1", "10.0"),
        ("20", "1", "20.0"),
        ("30", "2", "-30.0"),
    ]
    assert [(e.step, e.attempt, e.logs["loss"]) for e in events(tmp_path / "history.jsonl")] == [
        (10, 1, 10.0),
        (20, 1, 20.0),
        (30, 2, -30.0),
    ]


def test_a_new_run_keeps_the_former_file_aside(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    for value in (1.0, 2.0):
        run = live_run(CSVHistory(), JSONLHistory())
        run.emit("train_begin", output_dir=str(tmp_path))
        run.log(5, loss=value)
        run.finish()
    assert [row["loss"] for row in rows(tmp_path / "history.csv")] == ["2.0"]
    assert [row["loss"] for row in rows(tmp_path / "history.previous.csv")] == ["1.0"]
    assert [e.logs["loss"] for e in events(tmp_path / "history.previous.jsonl")] == [1.0]


def test_a_row_cut_off_by_a_crash_is_left_out(live_run: Callable[..., Any], tmp_path: Path) -> None:
    run = live_run(CSVHistory(), JSONLHistory(), run_id="r")
    run.emit("train_begin", output_dir=str(tmp_path))
    run.log(10, loss=1.0)
    run.log(11, loss=1.5)
    run.finish()
    for name in ("history.csv", "history.jsonl"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: whole.rindex(b"1.5") - 6])
    run = live_run(CSVHistory(), JSONLHistory(), run_id="r", attempt=2)
    run.emit("train_begin", 11, output_dir=str(tmp_path), resumed_from="checkpoint-11")
    run.log(12, loss=2.0)
    run.finish()
    assert [row["step"] for row in rows(tmp_path / "history.csv")] == ["10", "12"]
    assert [event.step for event in events(tmp_path / "history.jsonl")] == [10, 12]


def test_json_lines_are_the_events_themselves(live_run: Callable[..., Any], tmp_path: Path) -> None:
    seen: list[Log] = []
    run = live_run(JSONLHistory(tmp_path / "deep" / "rows.jsonl"))
    run.bus.subscribe("log")(seen.append)
    run.emit("train_begin", output_dir=str(tmp_path))
    run.log(1, loss=math.inf, text="\u00fcber\nzwei")
    run.log(2, loss=0.1)
    run.finish()
    assert events(tmp_path / "deep" / "rows.jsonl") == seen
    assert len(seen) == 2


def test_rows_can_be_read_while_the_run_goes_on(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = live_run(CSVHistory(), JSONLHistory())
    run.emit("train_begin", output_dir=str(tmp_path))
    run.log(1, loss=1.0)
    assert run.bus.flush(10)
    assert len(rows(tmp_path / "history.csv")) == 1
    assert len(events(tmp_path / "history.jsonl")) == 1


def test_logs_before_the_run_begins_are_kept(live_run: Callable[..., Any], tmp_path: Path) -> None:
    run = live_run(CSVHistory())
    run.log(0, eval_loss=3.0)
    run.emit("train_begin", output_dir=str(tmp_path))
    run.log(1, loss=1.0)
    run.finish()
    assert [row["step"] for row in rows(tmp_path / "history.csv")] == ["0", "1"]
