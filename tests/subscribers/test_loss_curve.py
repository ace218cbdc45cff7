"""The picture of the losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stepbus.subscribers import LossCurve

TRAIN, EVALUATION = (0x00, 0x79, 0x8C), (0xD1, 0x49, 0x5B)


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (1200, 675)
        found = image.convert("RGB").getcolors(1_000_000)
    assert found is not None
    return {colour for _, colour in found if isinstance(colour, tuple)}


@pytest.mark.parametrize("end", ["train_end", "run_failed"])
def test_both_curves_are_drawn_at_the_end(
    live_run: Callable[..., Any], tmp_path: Path, end: str
) -> None:
    run = live_run(LossCurve(ylabel="loss (nats per character)"))
    run.emit("train_begin", output_dir=str(tmp_path), model="CharGPT")
    for step in range(1, 200):
        run.log(step, loss=4 * math.exp(-step / 50))
    run.log(100, eval_loss=1.0)
    run.log(200, eval_loss=0.5, train_loss=1.0)
    assert run.bus.flush(10)
    assert not (tmp_path / "loss_curve.png").exists()
    failure = {"error": "ValueError", "message": "", "traceback": ""}
    run.emit(end, 200, **(failure if end == "run_failed" else {}))
    run.finish()
    assert {TRAIN, EVALUATION} <= colours(tmp_path / "loss_curve.png")
    assert [path.name for path in tmp_path.iterdir()] == ["loss_curve.png"]


def test_it_is_drawn_meanwhile_where_time_has_passed(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = live_run(LossCurve(tmp_path / "deep" / "curve.png", every_s=1e-9))
    run.emit("train_begin", output_dir=str(tmp_path))
    run.log(1, loss=1.0)
    assert run.bus.flush(10)
    assert TRAIN in colours(tmp_path / "deep" / "curve.png")


def test_values_that_are_not_finite_leave_gaps(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = live_run(LossCurve())
    run.emit("train_begin", output_dir=str(tmp_path))
    for step in range(200):
        run.log(step, loss=math.nan if step % 7 == 0 else math.inf if step % 11 == 0 else 2.0)
    run.emit("train_end")
    run.finish()
    assert TRAIN in colours(tmp_path / "loss_curve.png")


def test_a_resumed_run_draws_what_was_logged_before(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = live_run(LossCurve(), attempt=2)
    run.state.log_history.append({"step": 10, "eval_loss": 2.0})
    run.emit("train_begin", 10, output_dir=str(tmp_path), resumed_from="checkpoint-10")
    run.emit("train_end", 10)
    run.finish()
    assert EVALUATION in colours(tmp_path / "loss_curve.png")


def test_a_run_without_losses_has_no_picture(live_run: Callable[..., Any], tmp_path: Path) -> None:
    run = live_run(LossCurve())
    run.emit("train_begin", output_dir=str(tmp_path))
    run.emit("train_end")
    run.finish()
    assert not list(tmp_path.iterdir())
