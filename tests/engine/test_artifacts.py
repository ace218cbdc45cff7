"""Text, images, tables and files as events: of their step, exact, small, and refused when wrong."""

from __future__ import annotations

import io
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stepbus import Artifact, EventBus, Trainer, TrainingArguments, TrainingRun, parse_event
from stepbus.engine.artifacts import Artifacts
from stepbus.engine.artifacts.draft import draft_of_text
from stepbus.engine.artifacts.emitting import MOST_INLINE
from stepbus.engine.artifacts.images import draft_of_image
from stepbus.engine.artifacts.tables import draft_of_table
from stepbus.engine.metric_buffer import MetricBuffer
from stepbus.schemas.errors import ArgumentError, StepbusError

if TYPE_CHECKING:
    from tests.engine.conftest import Loop
    from tests.engine.slow_device import SlowDevice


def png(width: int = 4, height: int = 3, **options: Any) -> bytes:
    return encoded("PNG", width, height, **options)


def encoded(kind: str, width: int, height: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 30)).save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(image: Any) -> np.ndarray[Any, Any]:
    """What Pillow reads of an image that was logged."""
    data = draft_of_image("x", image, copies=False).encode(MetricBuffer())
    return np.asarray(Image.open(io.BytesIO(data)))


def in_every_step(folder: Path, log: Callable[[TrainingRun], object], **options: Any) -> Any:
    """The artifacts of a loop of two steps, and its run."""
    bus = EventBus()
    events: list[Any] = []
    bus.subscribe(Artifact)(events.append)
    args = TrainingArguments(
        str(folder), max_steps=2, save_strategy="no", report_to="none", disable_tqdm=True
    )
    with TrainingRun(args, model=torch.nn.Linear(1, 1), bus=bus, **options) as run:
        for _ in run.steps([torch.ones(1)] * 2):
            log(run)
            run.end_step(loss=0.5)
    return events, run


# When it comes


def test_it_belongs_to_the_step_that_it_was_logged_in_and_outside_of_steps_comes_at_once(
    loop: Loop,
) -> None:
    seen: list[int] = []

    def in_step(loop: Loop) -> None:
        loop.run.log_text("in step", f"step {loop.steps_done + 1}")
        assert loop.run.bus.flush(10)
        seen.append(len(loop.recorder.of("artifact")))

    def in_evaluation(loop: Loop) -> None:
        if not len(loop.recorder.of("evaluate")):
            loop.run.log_text("evaluation", f"step {loop.steps_done}")

    loop.in_step, loop.in_evaluation = in_step, in_evaluation
    loop.train(max_steps=4, eval_strategy="steps", eval_steps=4)
    events = loop.recorder.of("artifact")
    assert all(event.text == f"step {event.step}" for event in events)
    assert [event.step for event in events if event.tag == "in step"] == [1, 2, 3, 4]
    assert {event.step for event in events if event.tag == "evaluation"} == {4}
    assert seen == [0, 1, 2, 3], "it waits for the end of its step"
    names = [e.name for e in loop.recorder.events if e.step == 1 and e.name in NEAR]
    assert names.index("step_end") < names.index("artifact")


NEAR = ("step_end", "artifact", "log")


def test_before_the_first_step_and_after_the_last_it_comes_at_once(tmp_path: Path) -> None:
    bus = EventBus()
    events: list[Any] = []
    bus.subscribe("artifact")(events.append)
    args = TrainingArguments(str(tmp_path), max_steps=1, save_strategy="no", report_to="none")
    with TrainingRun(args, model=torch.nn.Linear(1, 1), bus=bus) as run:
        run.log_text("when", "before")
        for _ in run.steps([torch.ones(1)]):
            run.end_step()
        run.log_text("when", "after")
    assert [(event.step, event.text) for event in events] == [(0, "before"), (1, "after")]
    outside = TrainingRun(args, model=torch.nn.Linear(1, 1))
    with pytest.raises(StepbusError, match="inside of its block"):
        outside.log_text("when", "outside")


def test_a_step_that_fails_or_is_left_says_what_was_logged_in_it(tmp_path: Path) -> None:
    bus = EventBus()
    events: list[Any] = []
    bus.subscribe("*")(events.append)
    args = TrainingArguments(str(tmp_path), max_steps=3, save_strategy="no", report_to="none")

    def train() -> None:
        with TrainingRun(args, model=torch.nn.Linear(1, 1), bus=bus) as run:
            for _ in run.steps([torch.ones(1)] * 3):
                run.log_text("batch", "the one that fails")
                raise RuntimeError("a bad batch")

    with pytest.raises(RuntimeError, match="a bad batch"):
        train()
    names = [event.name for event in events]
    assert names.index("artifact") < names.index("run_failed")
    bus = EventBus()
    left: list[Artifact] = []
    bus.subscribe("artifact")(left.append)
    with TrainingRun(args, model=torch.nn.Linear(1, 1), bus=bus) as run:
        for _ in run.steps([torch.ones(1)] * 3):
            run.log_text("batch", "left")
            break
    assert [event.text for event in left] == ["left"]


def test_from_the_trainer_in_a_training_and_outside_of_one(tmp_path: Path) -> None:
    from tests.engine.trainer.conftest import Regression, Watcher, samples

    class Logs(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            outputs = model(**inputs)
            self.log_table("logits", [{"first": outputs["logits"].flatten()[0].detach()}])
            return outputs["loss"]

    watcher = Watcher()
    args = TrainingArguments(
        str(tmp_path), max_steps=2, save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    trainer = Logs(Regression(), args, train_dataset=samples(), callbacks=[watcher])
    trainer.log_text("note", "before")
    trainer.train()
    trainer.log_image("picture", png())
    trainer.log_file(__file__)
    with pytest.raises(ArgumentError, match="give a str"):
        trainer.log_text("note", 3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="there is no file"):
        trainer.log_file("gone")
    assert not watcher.of("run_failed"), "nothing was opened for what is wrong"
    assert [(e.tag, e.step) for e in watcher.of("artifact")] == [
        ("note", 0),
        ("logits", 1),
        ("logits", 2),
        ("picture", 2),
        ("test_artifacts.py", 2),
    ]
    assert len({event.run_id for event in watcher.of("artifact")}) == 1


def test_a_subclass_with_methods_of_those_names_keeps_them(tmp_path: Path) -> None:
    from tests.engine.trainer.conftest import Regression, samples

    class Own(Trainer):
        def log_text(self, *given: Any) -> str:  # type: ignore[override]
            return "own"

        log_image = log_table = log_file = log_text  # type: ignore[assignment]

    args = TrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=True)
    assert Own(Regression(), args, train_dataset=samples()).log_file() == "own"


def test_nobody_listening_nothing_is_encoded_or_written_and_wrong_is_still_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Artifacts, "_values", refuse)
    args = TrainingArguments(str(tmp_path), max_steps=1, report_to="none", disable_tqdm=True)
    with TrainingRun(args, model=torch.nn.Linear(1, 1)) as run:
        run.log_image("image", torch.rand(300, 300, 3))
        run.log_file(__file__, copy=True)
        with pytest.raises(ArgumentError, match="shape"):
            run.log_image("image", torch.rand(2, 2, 2, 2))
    assert not (tmp_path / "artifacts").exists()


def test_the_weights_are_the_same_with_and_without(new_loop: Callable[..., Loop]) -> None:
    def in_step(loop: Loop) -> None:
        run = loop.run
        run.log_text("text", "x" * 2 * MOST_INLINE)
        run.log_image("image", np.full((8, 8), loop.steps_done, np.uint8))
        run.log_table("table", [{"loss": loop.losses[-1] if loop.losses else math.nan}])
        run.log_file(__file__, copy=loop.steps_done == 2)

    alone = new_loop("alone").train()
    logging = new_loop("logging")
    logging.in_step = in_step
    logging.train()
    assert len(logging.recorder.of("artifact")) == 4 * logging.steps_done > 0
    assert logging.weights() == alone.weights()
    assert logging.losses == alone.losses


# What it holds


def test_what_is_small_is_in_the_event_and_what_is_large_in_a_file_that_stays(
    tmp_path: Path,
) -> None:
    big = encoded("PNG", 300, 300, compress_level=0)
    rows = [(n, "x" * 100) for n in range(1000)]

    def log(run: TrainingRun) -> None:
        if run.state.global_step:
            return
        run.log_text("a text", "short \u00e9\u4e16")
        run.log_text("a/long text", "long \u00e9\u4e16" * MOST_INLINE)
        run.log_image("small", png())
        run.log_image("big", big)
        run.log_table("few", rows[:2], columns=["n", "x"])
        run.log_table("many", rows, columns=["n", "x"])

    events, _ = in_every_step(tmp_path, log)
    folder = tmp_path / "artifacts"
    assert [bool(event.path) for event in events] == [False, True] * 3
    assert sorted(event.path for event in events if event.path) == sorted(
        str(path) for path in folder.iterdir()
    )
    assert all(len(event.to_json()) < 2 * MOST_INLINE for event in events)
    text, long, small, large, few, many = events
    assert (text.text, text.read_text(), text.num_bytes) == ("short \u00e9\u4e16",) * 2 + (11,)
    assert long.read_text() == "long \u00e9\u4e16" * MOST_INLINE
    assert Path(long.path).name.startswith("a_long_text-step1-")
    assert (small.data, large.read(), large.data) == (png(), big, b"")
    assert (few.columns, few.rows) == (("n", "x"), tuple(rows[:2]))
    assert many.read_table() == (("n", "x"), tuple(rows))
    for event in events:
        back = parse_event(event.to_json())
        assert isinstance(back, Artifact)
        assert back == event
        assert len(back.read()) == event.num_bytes
        assert (event.modified is None) == (not event.path)


def test_a_file_is_said_with_its_size_and_time_and_is_copied_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text("seed: 1")
    os.utime(file, (1e9, 1e9))

    def log(run: TrainingRun) -> None:
        run.log_file("config.yaml", copy=bool(run.state.global_step))
        if run.state.global_step:
            file.write_text("seed: 2, and more")

    (named, copied), _ = in_every_step(tmp_path / "out", log)
    assert (named.path, named.num_bytes, named.modified) == (str(file), 7, 1e9)
    assert (named.tag, named.kind) == ("config.yaml", "file")
    assert named.read() == b"seed: 2, and more", "the file itself"
    assert Path(copied.path).parent == tmp_path / "out" / "artifacts"
    assert copied.path.endswith(".yaml")
    assert (copied.read(), copied.num_bytes) == (b"seed: 1", 7)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(), tag=st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_bytes_come_back_exactly(data: bytes, tag: str) -> None:
    event = Artifact(kind="image", tag=tag, data=data)
    back = parse_event(event.to_json())
    assert isinstance(back, Artifact)
    assert (back.data, back.tag) == (data, tag)
    assert parse_event(event.model_dump()) == event
    surrogate = Artifact(kind="image", tag="caf\udce9", data=data)
    again = parse_event(surrogate.to_json())
    assert isinstance(again, Artifact)
    assert again.read() == data


CELLS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=8), large=st.booleans())
def test_any_cells_come_back_exactly_from_an_event_and_from_a_file(
    rows: list[Any], large: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [tuple(None if cell in NAMES_OF_NUMBERS else cell for cell in row) for row in rows]
    draft = draft_of_table("t", ["a", "b"], rows)
    assert draft.fields is not None
    event = Artifact(kind="table", tag="t", **draft.fields)
    if large:
        path = tmp_path_factory.mktemp("table") / "t.json"
        path.write_bytes(draft.encode(MetricBuffer()))
        event = Artifact(kind="table", tag="t", path=str(path))
    back = parse_event(event.to_json())
    assert isinstance(back, Artifact)
    assert back.read() == draft.encode(MetricBuffer())
    columns, found = back.read_table()
    assert columns == ("a", "b")
    expected = [tuple((type(cell), str(cell)) for cell in encodable_row(row)) for row in rows]
    assert [tuple((type(cell), str(cell)) for cell in row) for row in found] == expected


NAMES_OF_NUMBERS = ("NaN", "Infinity", "-Infinity")


def encodable_row(row: Any) -> Iterator[Any]:
    for cell in row:
        yield cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell


def test_cells_of_numpy_and_torch_become_plain_and_what_a_dict_lacks_is_none() -> None:
    rows = [
        {"a": np.float32(1.5), "b": torch.tensor(2)},
        {"b": np.array([True]), "c": np.str_("word")},
    ]
    fields = draft_of_table("t", None, rows).fields
    assert fields is not None
    assert fields["columns"] == ("a", "b", "c")
    assert fields["rows"] == ((1.5, 2, None), (None, True, "word"))
    assert [type(cell) for row in fields["rows"] for cell in row] == [
        *(float, int, type(None)),
        *(type(None), bool, str),
    ]
    chosen = draft_of_table("t", ["b"], rows).fields
    assert chosen is not None
    assert chosen["rows"] == ((2,), (True,))
    matrix = draft_of_table("t", ["x", "y"], torch.arange(4).reshape(2, 2)).fields
    assert matrix is not None
    assert matrix["rows"] == ((0, 1), (2, 3))


# Images


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_pixels_of_every_layout_are_what_pillow_decodes(
    make: Callable[..., Any], channels: int
) -> None:
    shape = (5, 7, channels) if channels else (5, 7)
    made = np.random.default_rng(channels).integers(0, 256, shape, dtype=np.uint8)
    expected = made[:, :, 0] if channels == 1 else made
    assert np.array_equal(pixels(make(made)), expected)
    if channels:
        first = np.ascontiguousarray(np.moveaxis(made, -1, 0))
        assert np.array_equal(pixels(make(first)), expected)
    assert np.array_equal(pixels(make(made / 255)), expected), "floats of 0 to 1"
    assert np.array_equal(pixels(make(made.astype(np.int64))), expected)
    assert np.array_equal(pixels(make(made > 99)), np.where(expected > 99, 255, 0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_other_widths_are_near(dtype: torch.dtype) -> None:
    values = torch.linspace(0, 1, 256, dtype=torch.float64).reshape(16, 16)
    found = torch.from_numpy(pixels(values.to(dtype)).astype(np.int16)).flatten()
    assert (found - torch.arange(256)).abs().max() <= 1


def test_what_lies_beyond_is_cut_off_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    wild = torch.tensor([[-1.0, 0.5, 2.0], [math.nan, math.inf, -math.inf]])
    for _ in range(2):
        data = draft_of_image("wild", wild, copies=False).encode(MetricBuffer())
    found = np.asarray(Image.open(io.BytesIO(data)))
    assert found.tolist() == [[0, 128, 255], [0, 255, 0]]
    assert pixels(np.array([[-5, 300, 7]])).tolist() == [[0, 255, 7]]
    assert caplog.text.count("log_image('wild', ...) got numbers from nan to nan") == 1
    assert caplog.text.count("log_image('x', ...) got numbers from -5 to 300") == 1


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "png"), ("JPEG", "jpeg"), ("GIF", "gif")])
def test_bytes_and_files_stay_as_they_are(kind: str, media_type: str, tmp_path: Path) -> None:
    data = encoded(kind, 6, 4)
    file = tmp_path / "picture"
    file.write_bytes(data)

    def log(run: TrainingRun) -> None:
        run.log_image("x", data)
        run.log_image("x", file)
        run.log_image("x", str(file), copy=True)

    (given, named, copied, *_), _ = in_every_step(tmp_path, log)
    assert (given.data, given.media_type) == (data, f"image/{media_type}")
    assert (named.path, named.data, named.media_type) == (str(file), b"", given.media_type)
    assert copied.path != named.path
    assert copied.read() == named.read() == data


def test_an_image_of_pillows_is_taken_with_its_palette() -> None:
    picture = Image.new("RGB", (3, 2), (10, 200, 30)).convert("P")
    data = draft_of_image("x", picture, copies=False).encode(MetricBuffer())
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), np.asarray(picture.convert("RGB"))
    )


def test_one_on_a_device_is_waited_for_and_the_ledger_says_so(
    tmp_path: Path, device: SlowDevice
) -> None:
    values = torch.rand(5, 4)

    def log(run: TrainingRun) -> None:
        if run.state.global_step:
            return
        run.log_image("image", device.tensor(values))
        device.captures = True
        with pytest.raises(StepbusError, match="while a CUDA graph is captured"):
            run.log_image("captured", device.tensor(values))
        device.captures = False
        with pytest.raises(ArgumentError, match=r"column\.tolist"):
            run.log_table("t", [{"a": device.tensor(1.0)}])

    (event,), run = in_every_step(tmp_path, log)
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(event.data))), np.rint(values.numpy() * 255)
    )
    assert device.waits == ["to cpu"]
    assert run.ledger.run.waits == {"log_image": 1}


# What is refused


WRONG: dict[str, tuple[Callable[[TrainingRun], object], str]] = {
    "no text": (lambda run: run.log_text("t", b"bytes"), "give a str"),  # type: ignore[arg-type]
    "no tag": (lambda run: run.log_text("", "text"), "give a name"),
    "a tag that is none": (lambda run: run.log_image(3, png()), "the tag 3"),  # type: ignore[arg-type]
    "no file": (lambda run: run.log_file("not/there.txt"), "there is no file /.*not/there.txt"),
    "a folder": (lambda run: run.log_file("."), "is a folder"),
    "no path": (lambda run: run.log_file(b"bytes"), "give a str or a Path"),  # type: ignore[arg-type]
    "no image file": (lambda run: run.log_image("i", "not/there.png"), "there is no file"),
    "a file of another kind": (lambda run: run.log_image("i", __file__), "give a PNG, JPEG or GIF"),
    "other bytes": (lambda run: run.log_image("i", b"RIFF1234WEBP"), "12 bytes that begin with"),
    "a shape": (lambda run: run.log_image("i", torch.rand(2, 3, 5)), r"shape \(2, 3, 5\)"),
    "nothing": (lambda run: run.log_image("i", np.zeros((0, 4))), r"shape \(0, 4\)"),
    "words": (lambda run: run.log_image("i", [["a", "b"]]), "a list of <U1"),
    "complex": (lambda run: run.log_image("i", torch.ones(2, 2) * 1j), "complex64"),
    "no values": (lambda run: run.log_image("i", torch.ones(2, 2, device="meta")), "on meta"),
    "no columns": (lambda run: run.log_table("t", [[1, 2]]), "give columns="),
    "no rows": (lambda run: run.log_table("t"), "give columns="),
    "a string of columns": (lambda run: run.log_table("t", [[1]], columns="a"), "list of names"),
    "a column twice": (lambda run: run.log_table("t", columns=["a", "a"]), "'a' twice"),
    "a short row": (lambda run: run.log_table("t", [[1, 2], [1]], columns=["a", "b"]), "row 1"),
    "a row that is none": (lambda run: run.log_table("t", [3], columns=["a"]), "row 0 as 3"),
    "rows that are none": (lambda run: run.log_table("t", 3, columns=["a"]), "rows=3"),  # type: ignore[arg-type]
    "a cell": (lambda run: run.log_table("t", [{"a": [1]}]), "a list in row 0, column 'a'"),
    "a tensor": (lambda run: run.log_table("t", [{"a": torch.ones(2)}]), "a Tensor in row 0"),
}


def test_what_is_wrong_is_refused_before_anything_is_said(tmp_path: Path) -> None:
    def log(run: TrainingRun) -> None:
        for wrong, (call, said) in WRONG.items():
            with pytest.raises(ArgumentError) as caught:
                call(run)
            assert re.search(said, str(caught.value)), wrong

    events, _ = in_every_step(tmp_path, log)
    assert events == []


def test_a_missing_pillow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    given = png()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(StepbusError, match=r"pip install 'stepbus\[image\]'"):
        draft_of_image("x", np.zeros((2, 2)), copies=False)
    assert draft_of_image("x", given, copies=False).encode(MetricBuffer()) == given


def test_a_disk_that_takes_nothing_is_said_and_the_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "artifacts").write_text("in the way")
    events, run = in_every_step(tmp_path, lambda run: run.log_text("t", "x" * 2 * MOST_INLINE))
    assert events == []
    assert run.summary.status == "finished"
    assert caplog.text.count("the text 't' was not logged") == 2


def test_text_that_utf8_cannot_spell_is_escaped_for_everybody_alike() -> None:
    draft = draft_of_text("caf\udce9", "caf\udce9")
    assert draft.tag == "caf\\udce9"
    assert draft.fields == {"text": "caf\\udce9"}
    assert draft.encode(MetricBuffer()) == b"caf\\udce9"


# How it gets there


def log_one_of_each(run: TrainingRun) -> None:
    run.log_text("text", "\u00e9\u4e16\n")
    run.log_text("long", "x" * 2 * MOST_INLINE)
    run.log_image("image", np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8))
    rows = [(math.nan, "a", None), (-math.inf, "b", 2**70)]
    run.log_table("table", rows, columns=["x", "y", "z"])
    run.log_file(__file__)


def test_another_process_gets_the_same_events_and_bytes(tmp_path: Path) -> None:
    from tests.engine.artifact_writer import ArtifactWriter

    far = tmp_path / "far"
    far.mkdir()
    bus = EventBus()
    near: list[Artifact] = []
    bus.subscribe("artifact")(near.append)
    bus.subscribe(ArtifactWriter(str(far)), delivery="process", required=True)
    args = TrainingArguments(str(tmp_path), max_steps=1, save_strategy="no", report_to="none")
    with bus, TrainingRun(args, model=torch.nn.Linear(1, 1), bus=bus) as run:
        for _ in run.steps([torch.ones(1)]):
            log_one_of_each(run)
            run.end_step()
    assert len(near) == 5
    assert (far / "lines").read_bytes().splitlines() == [event.to_json() for event in near]
    assert [(far / f"{e.seq}.bytes").read_bytes() for e in near] == [e.read() for e in near]


def test_one_that_falls_behind_and_one_that_comes_late_read_them_from_the_log(
    tmp_path: Path,
) -> None:
    bus = EventBus(replay=True)
    near: list[Artifact] = []
    behind: list[Artifact] = []
    late: list[Any] = []
    go_on = threading.Event()
    bus.subscribe("artifact")(near.append)

    @bus.subscribe("artifact", mailbox_size=1)
    def slow(event: Artifact) -> None:
        assert go_on.wait(30)
        behind.append(event)

    args = TrainingArguments(str(tmp_path), max_steps=3, save_strategy="no", report_to="none")

    async def read() -> None:
        with anyio.fail_after(30):
            async for event in bus.events("artifact", since=0, run_id=run.run_id):
                late.append(event)
                if len(late) == len(near):
                    return

    with bus:
        with TrainingRun(args, model=torch.nn.Linear(1, 1), bus=bus) as run:
            for _ in run.steps([torch.ones(1)] * 3):
                log_one_of_each(run)
                run.end_step()
                if run.state.global_step == 3:
                    go_on.set()
        anyio.run(read)
    assert len(near) == 15
    lines = [event.to_json() for event in near]
    assert [event.to_json() for event in behind] == lines
    assert [event.to_json() for event in late] == lines
    assert [event.read() for event in late] == [event.read() for event in near]


def test_no_event_holds_a_tensor_or_an_array(tmp_path: Path) -> None:
    def log(run: TrainingRun) -> None:
        run.log_image("image", torch.rand(3, 8, 8))
        run.log_image("array", np.zeros((8, 8)))
        run.log_table("table", [{"a": torch.ones(1), "b": np.float64(2)}])

    events, _ = in_every_step(tmp_path, log)

    def plain(value: Any) -> bool:
        if isinstance(value, tuple):
            return all(map(plain, value))
        return type(value) in (str, bytes, int, float, bool, type(None))

    assert len(events) == 6
    assert all(plain(getattr(event, n)) for event in events for n in Artifact.model_fields)
