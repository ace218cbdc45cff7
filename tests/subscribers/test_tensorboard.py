"""What TensorBoard reads of what was logged."""

from __future__ import annotations

import builtins
import io
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from stepbus.bus import EventBus
from stepbus.schemas import TrainerState
from stepbus.schemas.errors import DeliveryError
from stepbus.subscribers import TensorBoardCallback
from stepbus.subscribers.tensorboard_file import EventFile


def read(folder: Path | None) -> EventAccumulator:
    assert folder is not None
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder: Path | None, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def text(folder: Path | None, tag: str) -> list[str]:
    events = read(folder).Tensors(f"{tag}/text_summary")
    return [event.tensor_proto.string_val[0].decode() for event in events]


def test_numbers_become_scalars_at_their_step(live_run: Callable[..., Any], tmp_path: Path) -> None:
    board = TensorBoardCallback()
    run = live_run(board)
    run.emit("train_begin", output_dir=str(tmp_path), max_steps=20)
    run.log(10, loss=1.5, learning_rate=2e-3, epoch=0.5)
    run.log(20, loss=1.25, epoch=1.0)
    run.log(20, eval_loss=1.75, test_accuracy=1)
    run.emit("train_end")
    run.finish()
    assert board.logging_dir is not None
    assert board.logging_dir.parent == tmp_path / "runs"
    assert sorted(read(board.logging_dir).Tags()["scalars"]) == [
        "eval/loss",
        "test/accuracy",
        "train/epoch",
        "train/learning_rate",
        "train/loss",
    ]
    assert scalars(board.logging_dir, "train/loss") == [(10, 1.5), (20, 1.25)]
    assert scalars(board.logging_dir, "eval/loss") == [(20, 1.75)]
    assert scalars(board.logging_dir, "test/accuracy") == [(20, 1.0)]


def test_nan_and_infinities_are_written_as_such(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    board = TensorBoardCallback(tmp_path)
    run = live_run(board)
    run.emit("train_begin")
    run.log(1, loss=math.nan, grad_norm=math.inf, low=-math.inf, huge=1e300, missing=None)
    run.finish()
    assert math.isnan(scalars(tmp_path, "train/loss")[0][1])
    assert scalars(tmp_path, "train/grad_norm") == [(1, math.inf)]
    assert scalars(tmp_path, "train/low") == [(1, -math.inf)]
    assert scalars(tmp_path, "train/huge") == [(1, math.inf)]
    assert "train/missing" not in read(tmp_path).Tags()["scalars"]


def test_strings_and_arguments_become_text(live_run: Callable[..., Any], tmp_path: Path) -> None:
    board = TensorBoardCallback(tmp_path)
    run = live_run(board)
    run.emit("train_begin", arguments={"seed": 42, "report_to": ["tensorboard"]})
    run.log(3, eval_sample="the cat s\u00e4t")
    run.finish()
    assert text(tmp_path, "eval/sample") == ["the cat s\u00e4t"]
    assert '"seed": 42' in text(tmp_path, "args")[0]


def test_wall_time_is_that_of_the_event(
    live_run: Callable[..., Any], tmp_path: Path, clock: Any
) -> None:
    run = live_run(TensorBoardCallback(tmp_path), clock=clock)
    run.emit("train_begin")
    clock.now += 3600
    expected = clock.time()
    run.log(1, loss=1.0)
    clock.now += 3600
    run.finish()
    assert read(tmp_path).Scalars("train/loss")[0].wall_time == pytest.approx(expected, abs=1e-3)


def test_attempts_share_a_folder_and_superseded_steps_are_left_out(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    first = TensorBoardCallback()
    run = live_run(first, run_id="r1")
    run.emit("train_begin", output_dir=str(tmp_path))
    for step in (10, 20, 30):
        run.log(step, loss=float(step))
    run.finish()
    second = TensorBoardCallback()
    run = live_run(second, run_id="r1", attempt=2)
    run.emit("train_begin", 10, output_dir=str(tmp_path), resumed_from="checkpoint-10")
    run.log(20, loss=-20.0)
    run.finish()
    assert second.logging_dir == first.logging_dir
    assert scalars(second.logging_dir, "train/loss") == [(10, 10.0), (20, -20.0)]


def test_another_run_in_the_same_output_folder_has_a_folder_of_its_own(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    folders = set()
    for run_id in ("r1", "r2"):
        board = TensorBoardCallback()
        run = live_run(board, run_id=run_id)
        run.emit("train_begin", output_dir=str(tmp_path))
        run.log(1, loss=1.0)
        run.finish()
        folders.add(board.logging_dir)
    assert len(folders) == 2
    assert all(scalars(folder, "train/loss") == [(1, 1.0)] for folder in folders)


def test_the_environment_names_the_folder_and_the_argument_wins(
    live_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "env"))
    by_variable, by_argument = TensorBoardCallback(), TensorBoardCallback(tmp_path / "argument")
    run = live_run(by_variable, by_argument)
    run.emit("train_begin", output_dir=str(tmp_path / "out"))
    run.log(1, loss=1.0)
    run.finish()
    for folder in ("env", "argument"):
        assert scalars(tmp_path / folder, "train/loss") == [(1, 1.0)]
    assert not (tmp_path / "out").exists()


def test_logs_before_and_after_the_run_are_kept(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = live_run(TensorBoardCallback(tmp_path))
    run.log(0, eval_loss=3.0)
    run.emit("train_begin")
    run.emit("train_end", 5)
    run.log(5, eval_loss=1.0)
    run.finish()
    assert scalars(tmp_path, "eval/loss") == [(0, 3.0), (5, 1.0)]


def test_no_thread_is_left_behind(live_run: Callable[..., Any], tmp_path: Path) -> None:
    before = set(threading.enumerate())
    run = live_run(TensorBoardCallback(tmp_path))
    run.emit("train_begin")
    run.log(1, loss=1.0)
    run.finish()
    assert set(threading.enumerate()) <= before


def test_a_missing_package_is_named_with_its_extra(
    live_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_tensorboard(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("tensorboard."):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_tensorboard)
    monkeypatch.setattr(TensorBoardCallback, "delivery", "thread")
    with pytest.raises(DeliveryError) as caught:
        live_run(TensorBoardCallback())
    assert "pip install 'stepbus[demo]'" in str(caught.value.__cause__)


def test_the_runs_arguments_name_the_folder_before_the_environment(
    live_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "env"))
    monkeypatch.setenv("HOME", str(tmp_path))
    fixed = TensorBoardCallback(logging_dir=tmp_path / "fixed")
    run = live_run(TensorBoardCallback(), fixed)
    run.emit("train_begin", output_dir=str(tmp_path), arguments={"logging_dir": "~/arguments"})
    run.log(1, loss=1.0)
    run.finish()
    for folder in ("arguments", "fixed"):
        assert scalars(tmp_path / folder, "train/loss") == [(1, 1.0)]
    assert not (tmp_path / "env").exists()


def test_a_writer_that_is_given_is_written_with_and_stays_open(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    writer = SummaryWriter(str(tmp_path))
    board = TensorBoardCallback(writer)
    run = live_run(board)
    run.log(0, eval_loss=3.0)
    run.emit("train_begin", output_dir=str(tmp_path / "out"), arguments={"seed": 42})
    run.log(1, loss=1.5, note="text")
    run.emit("train_end")
    run.finish()
    assert board.tb_writer is writer
    writer.add_scalar("mine", 7.0, 2)
    writer.close()
    assert not (tmp_path / "out").exists()
    assert scalars(tmp_path, "eval/loss") == [(0, 3.0)]
    assert scalars(tmp_path, "train/loss") == [(1, 1.5)]
    assert scalars(tmp_path, "mine") == [(2, 7.0)]
    assert text(tmp_path, "train/note") == ["text"]
    assert '"seed": 42' in text(tmp_path, "args")[0]


def test_a_writer_that_knows_no_wall_time_is_given_none(live_run: Callable[..., Any]) -> None:
    class Writer:
        def __init__(self) -> None:
            self.written: list[Any] = []

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            self.written.append((tag, value, step))

        def flush(self) -> None: ...

    writer = Writer()
    run = live_run(TensorBoardCallback(tb_writer=writer))
    run.log(3, loss=1.5)
    run.finish()
    assert writer.written == [("train/loss", 1.5, 3)]


def test_a_subclass_writes_through_tb_writer_too(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    class Board(TensorBoardCallback):
        def on_log(self, event: Any) -> None:  # type: ignore[override]
            super().on_log(event)
            self.tb_writer.add_scalar("mine", event.logs["loss"] + 1, event.step)
            self.tb_writer.add_text("words", "some", event.step)

    run = live_run(Board(tmp_path))
    run.emit("train_begin")
    run.log(4, loss=1.0)
    run.finish()
    assert scalars(tmp_path, "mine") == [(4, 2.0)]
    assert text(tmp_path, "words") == ["some"]


def test_histograms_are_written_with_their_edges(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    board = TensorBoardCallback(logging_dir=tmp_path / "runs")
    run = live_run(board)
    run.emit("train_begin", output_dir=str(tmp_path))
    figures = {"sum": 4.0, "sum_of_squares": 10.0, "min": -1.0, "max": 3.0}
    run.emit(
        "histogram", tag="weights/head", num=4, edges=(-1.0, 0.0, 4.0), counts=(1, 3), **figures
    )
    run.emit("histogram", tag="all NaN", num=2, num_nan=2)
    run.emit("histogram", tag="lost", num=2, counts=None, edges=None)
    run.finish()
    (written,) = read(board.logging_dir).Histograms("weights/head")
    value = written.histogram_value
    assert (value.min, value.max, value.num, value.sum, value.sum_squares) == (-1, 3, 4, 4, 10)
    assert (list(value.bucket_limit), list(value.bucket)) == ([0.0, 4.0], [1.0, 3.0])
    assert read(board.logging_dir).Tags()["histograms"] == ["weights/head"]


def test_a_writer_that_is_given_gets_histograms_too(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    writer = SummaryWriter(tmp_path / "own")
    run = live_run(TensorBoardCallback(writer))
    run.emit("train_begin", output_dir=str(tmp_path))
    figures = {"sum": 1.5, "sum_of_squares": 1.25, "min": 0.5, "max": 1.0}
    run.emit("histogram", tag="grads", num=2, edges=(0.25, 0.75, 1.25), counts=(1, 1), **figures)
    run.finish()
    writer.close()
    (written,) = read(tmp_path / "own").Histograms("grads")
    assert written.histogram_value.num == 2
    assert list(written.histogram_value.bucket_limit) == [0.75, 1.25]


def image_bytes(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (31, 17), (250, 5, 5)).save(buffer, kind)
    return buffer.getvalue()


def log_artifacts(run: Any, folder: Path) -> dict[str, bytes]:
    """Logs some of every kind; the images by tag."""
    images = {f"pictures/{kind}": image_bytes(kind) for kind in ("PNG", "JPEG", "GIF")}
    for tag, data in images.items():
        run.emit("artifact", 3, kind="image", tag=tag, data=data)
    (folder / "big.png").write_bytes(images["pictures/PNG"])
    run.emit("artifact", 4, kind="image", tag="in a file", path=str(folder / "big.png"))
    run.emit("artifact", 3, kind="text", tag="sample", text="the cat s\u00e4t")
    rows = [(1, "a|b", math.nan), (None, "two\nlines", True)]
    run.emit("artifact", 3, kind="table", tag="table", columns=("x", "y", "z"), rows=rows)
    run.emit("artifact", 3, kind="table", tag="long", columns=("x",), rows=[(1,)] * 201)
    run.emit("artifact", 3, kind="image", tag="lost", path=str(folder / "lost.png"))
    for tag in ("first", "second"):
        run.emit("artifact", 3, kind="file", tag=tag, path=str(folder / "big.png"))
    return {**images, "in a file": images["pictures/PNG"]}


def images_of(folder: Path, tag: str) -> Any:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0})
    accumulator.Reload()
    return accumulator.Images(tag)


def test_text_images_and_tables_are_written_and_files_are_said_once(
    live_run: Callable[..., Any],
    tmp_path: Path,
    clock: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    board = TensorBoardCallback(logging_dir=tmp_path / "runs")
    run = live_run(board, clock=clock)
    run.emit("init_end", output_dir=str(tmp_path))
    images = log_artifacts(run, tmp_path)
    run.finish()
    for tag, data in images.items():
        (image,) = images_of(tmp_path / "runs", tag)
        assert image.encoded_image_string == data
        assert (image.width, image.height) == (31, 17), tag
        assert image.step == (4 if tag == "in a file" else 3)
        assert image.wall_time == pytest.approx(clock.time(), abs=1e-3)
    assert text(tmp_path / "runs", "sample") == ["the cat s\u00e4t"]
    assert text(tmp_path / "runs", "table") == [
        "| x | y | z |\n| --- | --- | --- |\n| 1 | a\\|b | nan |\n|  | two lines | True |"
    ]
    assert text(tmp_path / "runs", "long")[0].endswith("\n\n1 further rows are left out.")
    assert caplog.text.count("TensorBoardCallback takes no files: they are left out.") == 1
    assert "lost.png, which is gone: give copy=True" in caplog.text


def test_a_writer_that_is_given_gets_them_too(
    live_run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = SummaryWriter(tmp_path / "own")
    run = live_run(TensorBoardCallback(writer))
    images = log_artifacts(run, tmp_path)
    run.finish()
    writer.close()
    for tag, data in images.items():
        (image,) = images_of(tmp_path / "own", tag)
        given, found = (
            np.asarray(Image.open(io.BytesIO(each)).convert("RGB"))
            for each in (data, image.encoded_image_string)
        )
        assert np.array_equal(given, found)
    assert text(tmp_path / "own", "sample") == ["the cat s\u00e4t"]
    assert caplog.text.count("takes no files") == 1


def test_files_of_one_second_are_named_in_the_order_that_they_were_written_in(
    tmp_path: Path,
) -> None:
    for number in range(3):
        file = EventFile(tmp_path)
        file.add_scalar("x", number, number)
        file.close()
    assert [value for _, value in scalars(tmp_path, "x")] == [0, 1, 2]
    seconds = [path.name.split(".")[3] for path in sorted(tmp_path.iterdir())]
    assert len(set(seconds)) == 3


@pytest.mark.parametrize(
    ("subscribed", "options", "delivery"),
    [
        (TensorBoardCallback(), {}, "process"),
        (TensorBoardCallback, {}, "process"),
        (TensorBoardCallback(), {"delivery": "thread"}, "thread"),
    ],
)
def test_whoever_subscribes_it_has_it_in_another_process_unless_told_otherwise(
    subscribed: Any, options: Any, delivery: str, tmp_path: Path
) -> None:
    with EventBus() as bus:
        board = bus.subscribe(subscribed, required=True, **options)
        bus.wait_ready()
        state = TrainerState(global_step=3)
        link = bus.open_run(state, run_id="r")
        link.emit("init_end", {"output_dir": str(tmp_path)})
        link.emit("train_begin", {"output_dir": str(tmp_path)})
        link.emit("log", {"logs": {"loss": 0.5}})
        link.emit("train_end")
        assert bus.flush(30)
        assert bus.ledger["TensorBoardCallback"].delivery == delivery
    assert scalars(board.logging_dir, "train/loss") == [(3, 0.5)]
