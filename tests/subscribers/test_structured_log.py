"""Events as log entries, and printed logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import structlog

from stepbus.schemas import ArgumentError
from stepbus.subscribers import PrinterCallback, StructuredLog


def capture() -> tuple[Any, list[Any]]:
    entries = structlog.testing.LogCapture()
    return structlog.wrap_logger(None, processors=[entries]), entries.entries


def test_events_become_entries_with_their_fields(live_run: Callable[..., Any]) -> None:
    logger, entries = capture()
    run = live_run(StructuredLog(logger), run_id="r")
    run.emit("train_begin", max_steps=3)
    run.emit("step_end", 1, loss=1.0)
    run.log(1, loss=1.0)
    run.emit("run_failed", 2, error="ValueError", message="no", traceback="...")
    run.finish()
    assert [(entry["event"], entry["log_level"]) for entry in entries] == [
        ("train_begin", "info"),
        ("log", "info"),
        ("run_failed", "error"),
    ]
    assert entries[1]["logs"] == {"loss": 1.0}
    assert (entries[1]["step"], entries[1]["run_id"]) == (1, "r")


def test_chosen_events_alone_become_entries(live_run: Callable[..., Any]) -> None:
    logger, entries = capture()
    run = live_run(StructuredLog.of("step_end", logger=logger))
    run.emit("train_begin")
    run.emit("step_end", 1)
    run.log(1, loss=1.0)
    run.finish()
    assert [entry["event"] for entry in entries] == ["step_end"]
    assert [row.subscriber for row in run.bus.ledger] == ["StructuredLog"]


def test_all_events_can_be_chosen(live_run: Callable[..., Any]) -> None:
    logger, entries = capture()
    run = live_run(StructuredLog.of("*", logger=logger))
    run.emit("train_begin")
    run.emit("substep_end")
    run.finish()
    assert [entry["event"] for entry in entries] == ["train_begin", "substep_end"]


def test_of_an_artifact_it_says_what_and_where_and_not_what_is_in_it(
    live_run: Callable[..., Any],
) -> None:
    logger, entries = capture()
    run = live_run(StructuredLog(logger))
    run.emit("artifact", 3, kind="image", tag="i", data=b"bytes", num_bytes=5)
    run.finish()
    (entry,) = entries
    assert (entry["event"], entry["kind"], entry["tag"]) == ("artifact", "image", "i")
    assert (entry["num_bytes"], entry["step"]) == (5, 3)
    assert not {"data", "text", "columns", "rows"} & set(entry)


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'step_end'"):
        StructuredLog.of("step_edn")


def test_the_printer_prints_logs_as_dicts_and_leaves_the_event_whole(
    live_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []
    run = live_run(PrinterCallback())
    run.bus.subscribe("log")(seen.append)
    run.log(1, loss=1.5, total_flos=1e9)
    run.log(2, eval_loss=1.25)
    run.finish()
    assert capsys.readouterr().out == "{'loss': '1.5'}\n{'eval_loss': '1.25'}\n"
    assert seen[0].logs["total_flos"] == 1e9
