"""What the base gives to a tracker: which run, what, and in which order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stepbus import ExperimentRun, ExperimentTracker, RunStatus
from stepbus.bus.shapes import both_shapes
from stepbus.schemas import Event, TrainerState


class Kept(ExperimentTracker):
    """A tracker that keeps its calls in a file beside the run, as one of a user's own may."""

    tracker_name = "kept"

    def start(self, run: ExperimentRun) -> None:
        self.file = run.output_dir / "kept.jsonl"
        self.found(id=run.known.get("id", f"made-for-{run.run_id}"), folder=str(run.output_dir))
        self.write("start", name=run.name, resumed=run.resumed)

    def log_params(self, params: Mapping[str, Any]) -> None:
        self.write("params", **params)

    def log_metrics(
        self, metrics: Mapping[str, Any], *, step: int, epoch: float, time: float
    ) -> None:
        self.write("metrics", step=step, **metrics)

    def finish(self, status: RunStatus) -> None:
        self.write("finish", **status.told())

    def write(self, what: str, **values: Any) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps([what, values]) + "\n")


def calls(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "kept.jsonl").read_text().splitlines()]


def test_a_run_is_opened_by_its_training_and_finished_with_its_status(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = live_run(Kept(), run_id="r")
    folder = str(tmp_path)
    run.emit("init_end", output_dir=folder, run_name="n")
    run.emit("train_begin", output_dir=folder, run_name="n", arguments={"seed": 1})
    run.log(1, loss=2.0, missing=None)
    run.log(2, eval_loss=1.0)
    run.log(2, train_loss=1.5, epoch=1.0)
    run.emit("train_end", status="stopped", reason="why", stopped_by="who")
    run.log(2, test_loss=3.0)
    run.emit("predict", metrics={"test_acc": 4.0})
    run.finish()
    assert calls(tmp_path) == [
        ["start", {"name": "n", "resumed": False}],
        ["params", {"seed": 1}],
        ["metrics", {"step": 1, "train/loss": 2.0}],
        ["metrics", {"step": 2, "eval/loss": 1.0}],
        ["metrics", {"step": 2, "train/epoch": 1.0}],
        ["metrics", {"step": 2, "train/train_loss": 1.5}],
        ["metrics", {"step": 2, "test/loss": 3.0}],
        ["metrics", {"step": 2, "test/acc": 4.0}],
        ["finish", {"status": "stopped", "reason": "why", "stopped_by": "who"}],
    ]


def test_the_next_attempt_gets_the_same_place_and_only_the_changed_parameters(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    folder = str(tmp_path)
    for attempt, inner in ((1, {"a": 1, "b": 2}), (2, {"a": 1, "b": 3})):
        tracker = Kept()
        run = live_run(tracker, run_id="r", attempt=attempt)
        run.emit("train_begin", output_dir=folder, arguments={"seed": 1, "inner": inner})
        assert run.bus.flush(10)
        assert tracker.whereabouts() == {"id": "made-for-r", "folder": folder}
        run.emit("run_failed", error="Killed", message="", traceback="")
        run.finish()
    assert calls(tmp_path) == [
        ["start", {"name": None, "resumed": False}],
        ["params", {"seed": 1, "inner": {"a": 1, "b": 2}}],
        ["finish", {"status": "killed", "reason": "Killed"}],
        ["start", {"name": None, "resumed": True}],
        ["params", {"inner": {"b": 3}}],
        ["finish", {"status": "killed", "reason": "Killed"}],
    ]


def test_an_event_that_a_dead_one_has_handed_on_is_not_handed_on_again(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    class Given(Kept):
        """Keeps the events, to give them to another one."""

        def __init__(self) -> None:
            super().__init__()
            self.events: list[Event] = []

        @both_shapes
        def on_log(self, event: Any) -> None:
            self.events.append(event)
            super().on_log(event)

        @both_shapes
        def on_train_begin(self, event: Any) -> None:
            self.events.append(event)
            super().on_train_begin(event)

    first = Given()
    run = live_run(first, run_id="r")
    run.emit("train_begin", output_dir=str(tmp_path))
    run.log(1, loss=1.0)
    run.log(2, loss=2.0)
    assert run.bus.flush(10)
    # As the bus does it for one that takes the place of another: the last event comes again.
    replacement = Kept()
    begin, *_, last = first.events
    replacement.on_train_begin(begin.model_copy().mark_again())
    replacement.on_log(last)
    replacement.on_log(last.model_copy(update={"seq": last.seq + 1, "step": 3}))
    run.finish()
    steps = [values["step"] for what, values in calls(tmp_path) if what == "metrics"]
    assert steps == [1, 2, 3]
    replacement.close()


def test_logs_that_come_before_any_run_are_kept_and_those_of_none_are_said(
    live_run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = live_run(Kept(), run_id="r")
    run.log(0, loss=1.0)
    run.emit("train_begin", output_dir=str(tmp_path))
    run.emit("train_end")
    run.finish()
    assert calls(tmp_path)[1] == ["metrics", {"step": 0, "train/loss": 1.0}]
    run = live_run(Kept(), run_id="s")
    run.log(0, loss=1.0)
    run.finish()
    assert "1 logs came before any run had begun" in caplog.text


def test_what_it_cannot_take_is_said_once(
    live_run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = live_run(Kept(), run_id="r")
    run.emit("train_begin", output_dir=str(tmp_path))
    for step in (1, 2):
        run.emit("histogram", step, tag="h", edges=(0.0, 1.0), counts=(1,))
        run.emit("artifact", step, kind="image", tag="i")
        run.emit("artifact", step, kind="file", tag="f")
        run.emit("artifact", step, kind="file", tag="gone", path=str(tmp_path / "gone"))
    run.finish()
    said = [line for line in caplog.messages if "Kept takes no" in line]
    assert [line.split()[4] for line in said] == ["histograms:", "images:", "files:"]
    assert sum("/gone, which is gone" in line for line in caplog.messages) == 1


def test_a_folder_that_cannot_be_written_costs_no_value(
    live_run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "trackers").write_text("a file where the folder should be")
    run = live_run(Kept(), run_id="r")
    run.emit("train_begin", output_dir=str(tmp_path))
    run.log(1, loss=1.0)
    run.log(2, loss=1.0)
    run.finish()
    assert [what for what, _ in calls(tmp_path)].count("metrics") == 2
    said = [line for line in caplog.messages if "cannot be written" in line]
    assert len(said) == 1


def test_a_trial_gives_its_name_group_and_parameters(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    class Told(Kept):
        def start(self, run: ExperimentRun) -> None:
            super().start(run)
            self.write("trial", name=run.name, group=run.group)

    run = live_run(Told(), run_id="r")
    run.state.trial_name, run.state.trial_params = "trial-3", {"lr": 0.5}
    arguments = {"lr": 0.1}
    run.emit("train_begin", output_dir=str(tmp_path), run_name="search", arguments=arguments)
    run.finish()
    assert calls(tmp_path)[1:3] == [
        ["trial", {"name": "trial-3", "group": "search"}],
        ["params", {"lr": 0.5}],
    ]


def test_two_runs_at_once_have_one_of_it_each(live_run: Callable[..., Any], tmp_path: Path) -> None:
    run = live_run(Kept(), run_id="one")
    other = run.bus.open_run(TrainerState(), run_id="two")
    for name, link in (("one", run.link), ("two", other)):
        (tmp_path / name).mkdir()
        link.emit("train_begin", {"output_dir": str(tmp_path / name)})
    for step in (1, 2):
        run.log(step, loss=float(step))
        other.emit("log", {"logs": {"loss": float(-step)}})
    run.emit("train_end")
    other.emit("run_failed", {"error": "E", "message": "m", "traceback": ""})
    run.finish()
    for name, sign, status in (("one", 1, "finished"), ("two", -1, "failed")):
        found = calls(tmp_path / name)
        assert [values["train/loss"] for what, values in found if what == "metrics"] == [
            sign * 1.0,
            sign * 2.0,
        ]
        assert found[-1][1]["status"] == status


def test_what_was_collected_is_asked_for_before_the_end(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    class Collecting(Kept):
        def start(self, run: ExperimentRun) -> None:
            super().start(run)
            self.rows: list[int] = []

        def log_metrics(
            self, metrics: Mapping[str, Any], *, step: int, epoch: float, time: float
        ) -> None:
            self.rows.append(step)
            self.collected()

        def flush(self) -> None:
            self.write("batch", steps=self.rows)
            self.rows = []

    run = live_run(Collecting(), run_id="r")
    run.emit("train_begin", output_dir=str(tmp_path))
    for step in range(1, 8):
        run.log(step, loss=1.0)
    run.emit("train_end")
    run.finish()
    found = calls(tmp_path)
    assert [step for what, values in found if what == "batch" for step in values["steps"]] == list(
        range(1, 8)
    )
    assert found[-1][0] == "finish"
