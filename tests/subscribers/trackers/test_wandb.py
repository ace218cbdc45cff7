"""What Weights & Biases has of a run: read from the offline files that it wrote."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from stepbus import ArgumentError, DeliveryError, EventBus, WandbCallback
from stepbus.schemas import TrainerState
from stepbus.subscribers.trackers.experiment import CLOSING
from tests.subscribers.test_in_a_sidecar import kill_the_sidecar
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.failing_way import FailingWay
from tests.subscribers.trackers.reading.wandb import offline_runs

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def test_a_training_is_there_whole_when_train_returns(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_LOG_MODEL", "checkpoint")
    trained = train_with(
        WandbCallback(tags=["a"], group="g"),
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
    )
    (run,) = offline_runs(trained.output_dir)
    where = trained.trainer.tracker("wandb")
    assert trained.delivery == "process"
    assert (where["id"], where["folder"]) == (run.run_id, str(run.folder))
    assert run.run_id == trained.trainer.run_id
    assert (run.project, run.name, run.group, run.tags) == ("huggingface", "tiny", "g", ["a"])
    # Parameters: every one, as JSON has it.
    expected = json.loads(json.dumps(trained.params))
    assert {name: run.config.get(name, "missing") for name in expected} == expected
    assert run.config["model/num_parameters"] == 81
    # Every value of every step, exact, at the time of its event.
    assert run.all_points() == trained.logged()
    assert len(run.points("train/loss")) == 6
    assert len(run.points("eval/loss")) == 2
    for row in run.history:
        if "train/loss" in row:
            assert (
                row["_timestamp"] == trained.checkpoints.logged_at[row["train/global_step"], "loss"]
            )
    # What is said once.
    assert {name: run.summary[name] for name in CLOSING} == trained.closing()
    assert run.summary["stepbus/status"] == "finished"
    assert run.exit_code == 0
    # Each checkpoint, though rotation has deleted all but the last.
    assert len(list(trained.output_dir.glob("checkpoint-*"))) == 1
    base, *checkpoints = run.artifacts
    assert (base.name, base.aliases - {"latest"}) == ("model-tiny", {"base_model"})
    assert base.files() == {"model_architecture.txt": str(trained.trainer.model).encode()}
    assert [artifact.aliases - {"latest"} for artifact in checkpoints] == [
        {"checkpoint-2", "epoch_0.33"},
        {"checkpoint-4", "epoch_0.67"},
        {"checkpoint-6", "epoch_1.0"},
    ]
    for artifact, (step, files) in zip(
        checkpoints, sorted(trained.checkpoints.files.items()), strict=True
    ):
        assert artifact.name == "model-tiny", step
        assert artifact.files() == files
    # All that it wrote is in the run's folder.
    assert all(trained.output_dir in Path(path).parents for path in checkpoints[0].local_paths())


def test_evaluations_and_predictions_around_a_training_are_in_its_run(
    train_with: TrainWith,
) -> None:
    trained = train_with(WandbCallback(), train=False)
    trainer = trained.trainer
    trainer.evaluate()
    trainer.train()
    trainer.evaluate(metric_key_prefix="test")
    predicted = trainer.predict(trainer.eval_dataset).metrics
    runs = offline_runs(trained.output_dir)
    assert {run.run_id for run in runs} == {trainer.run_id}
    found: dict[str, list[tuple[int, float]]] = {}
    for run in runs:
        for name, points in run.all_points().items():
            found.setdefault(name, []).extend(points)
    expected = trained.logged()
    for name, value in (predicted or {}).items():
        expected.setdefault(f"test/{name.removeprefix('test_')}", []).append((6, value))
    assert found == expected
    assert expected["eval/loss"][0][0] == 0
    # Parameters are written once.
    assert ["seed" in run.config for run in runs] == [True, False, False, False]


def test_texts_images_tables_and_files_are_there_byte_for_byte(
    train_with: TrainWith, tmp_path: Path
) -> None:
    trained = train_with(WandbCallback(), train=False, max_steps=2, eval_strategy="no")
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(buffer, "JPEG")
    file = tmp_path / "config.yaml"
    file.write_text("seed: 1")
    with trained.trainer as trainer:
        trainer.train()
        trainer.log_text("sample", "a <b> c\n")
        trainer.log_image("pictures/small", buffer.getvalue())
        trainer.log_image("pictures/large", np.random.default_rng(0).random((200, 200, 3)))
        rows = [{"id": 1, "note": "x", "score": 0.5}, {"id": 2, "score": 1}]
        trainer.log_table("table", rows)
        trainer.log_file(file, "configs/main")
    trained.assert_nothing_failed()
    (run,) = offline_runs(trained.output_dir)
    logged = {tag: (step, value) for tag, ((step, value),) in run.media().items()}
    assert {step for step, _ in logged.values()} == {2}
    found = {tag: (run.folder / "files" / value["path"]) for tag, (_, value) in logged.items()}
    assert found["pictures/small"].read_bytes() == buffer.getvalue()
    (large,) = (trained.output_dir / "artifacts").glob("*.png")
    assert found["pictures/large"].read_bytes() == large.read_bytes()
    assert "<pre>a &lt;b&gt; c\n</pre>" in found["sample"].read_text()
    table = json.loads(found["table"].read_text())
    assert (table["columns"], table["data"]) == (
        ["id", "note", "score"],
        [[1, "x", 0.5], [2, None, 1]],
    )
    artifact = next(artifact for artifact in run.artifacts if artifact.name == "configs-main")
    assert artifact.files() == {"main.yaml": b"seed: 1"}
    assert artifact.aliases == {"step-2", "latest"}


def test_one_session_is_one_file(train_with: TrainWith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_WATCH", "gradients")
    trained = train_with(WandbCallback(), train=False, max_steps=102, eval_steps=51)
    with trained.trainer as trainer:
        trainer.evaluate()
        trainer.train()
        trainer.evaluate()
    (run,) = offline_runs(trained.output_dir)
    points = run.all_points()
    gradients = {name: points.pop(name) for name in list(points) if name.startswith("gradients/")}
    assert points == trained.logged()
    assert [step for step, _ in run.points("eval/loss")] == [0, 51, 102, 102]
    named = dict(trainer.model.named_parameters())
    kinds: Any = {name: found for name, found in gradients.items() if name.endswith("/_type")}
    assert kinds == {f"gradients/{name}/_type": [(100, "histogram")] for name in named}
    for name, parameter in named.items():
        ((_, counts),) = cast(Any, gradients[f"gradients/{name}/values"])
        assert sum(counts) == parameter.numel()


def test_a_resumed_training_goes_on_with_the_run(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_LOG_MODEL", "end")
    first = train_with(WandbCallback(), max_steps=3, save_strategy="steps", save_steps=3)
    second = train_with(
        WandbCallback(), save_strategy="steps", save_steps=3, resume_from_checkpoint=True
    )
    runs = offline_runs(first.output_dir)
    assert {run.run_id for run in runs} == {first.trainer.run_id} == {second.trainer.run_id}
    before, after = runs
    assert [step for step, _ in after.points("train/loss")] == [4, 5, 6]
    expected = first.logged()["train/loss"] + second.logged()["train/loss"]
    assert before.points("train/loss") + after.points("train/loss") == expected
    # Only what has changed is written again.
    assert before.config["max_steps"] == 3
    assert after.config["max_steps"] == 6
    assert "seed" not in after.config
    base, model = after.artifacts
    assert "base_model" in base.aliases
    assert model.aliases == {"final_model", "latest"}
    assert model.files() == second.checkpoints.files[6]


class BreaksAtStepFour(Exception): ...


def test_a_training_that_fails_is_a_failed_run(train_with: TrainWith) -> None:
    trained = train_with(WandbCallback(), train=False)
    step = trained.trainer.training_step

    def training_step(*args: Any, **kwargs: Any) -> Any:
        if trained.trainer.state.global_step == 4:
            raise BreaksAtStepFour("on purpose")
        return step(*args, **kwargs)

    trained.trainer.training_step = training_step  # type: ignore[method-assign]
    with pytest.raises(BreaksAtStepFour):
        trained.trainer.train()
    (run,) = offline_runs(trained.output_dir)
    assert (run.exit_code, run.summary["stepbus/status"]) == (1, "failed")
    assert run.summary["stepbus/reason"] == "BreaksAtStepFour: on purpose"
    assert run.all_points() == trained.logged()


def test_a_killed_process_loses_nothing_and_says_nothing_twice(tmp_path: Path) -> None:
    with EventBus() as bus:
        bus.subscribe(WandbCallback(), delivery="process", required=True)
        bus.wait_ready()
        state = TrainerState()
        link = bus.open_run(state, run_id="killed")
        link.emit("init_end", {"output_dir": str(tmp_path)})
        link.emit("train_begin", {"output_dir": str(tmp_path), "arguments": {"seed": 7}})
        for step in range(1, 31):
            state.global_step = step
            link.emit("log", {"logs": {"loss": float(step)}})
            if step in (10, 20):
                assert bus.flush(30)
                kill_the_sidecar()
        link.emit("train_end")
        assert bus.flush(30)
        row = bus.ledger["WandbCallback"]
        assert (row.failures, row.quarantined) == (0, "")
    runs = offline_runs(tmp_path)
    assert [run.run_id for run in runs] == ["killed"] * 3
    steps = Counter(step for run in runs for step, _ in run.points("train/loss"))
    assert steps == Counter(range(1, 31))
    assert [run.config.get("seed") for run in runs] == [7, None, None]
    assert runs[-1].exit_code == 0


def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    with EventBus() as bus:
        bus.subscribe(WandbCallback(), delivery="process", required=True)
        bus.wait_ready()
        links = {}
        for name in ("one", "two"):
            links[name] = bus.open_run(TrainerState(), run_id=name)
            values = {"output_dir": str(tmp_path / name), "arguments": {"which": name}}
            links[name].emit("train_begin", values)
        for step in range(1, 6):
            for factor, name in enumerate(links, 1):
                links[name].state.global_step = step
                links[name].emit("log", {"logs": {"loss": float(step * factor)}})
        links["one"].emit("train_end")
        links["two"].emit("run_failed", {"error": "E", "message": "m", "traceback": ""})
        assert bus.flush(30)
        assert bus.ledger["WandbCallback"].failures == 0
    for factor, (name, code) in enumerate({"one": 0, "two": 1}.items(), 1):
        (run,) = offline_runs(tmp_path / name)
        assert (run.run_id, run.config["which"], run.exit_code) == (name, name, code)
        assert run.points("train/loss") == [(n, float(n * factor)) for n in range(1, 6)]


def test_what_cannot_work_is_an_error_before_the_first_step(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArgumentError, match="log_model is 'evry': it must be 'checkpoint'"):
        WandbCallback(log_model="evry")
    trained = train_with(WandbCallback(mode="online"), train=False)
    with pytest.raises(DeliveryError, match="wandb has no key: run `wandb login`"):
        trained.trainer.train()
    assert trained.trainer.state.global_step == 0
    monkeypatch.setenv("WANDB_LOG_MODEL", "sometimes")
    with pytest.raises(ArgumentError, match="WANDB_LOG_MODEL is 'sometimes'"):
        train_with(WandbCallback(), folder="other")
    monkeypatch.delenv("WANDB_LOG_MODEL")
    monkeypatch.setenv("WANDB_WATCH", "everything")
    with pytest.raises(ArgumentError, match="WANDB_WATCH is 'everything': it must be 'gradients'"):
        train_with(WandbCallback(), folder="third")


def test_a_server_that_cannot_be_reached_costs_no_value(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = FailingWay(None)
    way.refuse()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", way.address)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    trained = train_with(WandbCallback())
    (run,) = [run for run in offline_runs(trained.output_dir) if run.history]
    assert run.run_id == trained.trainer.run_id
    assert run.all_points() == trained.logged()
    assert run.exit_code == 0


def test_a_run_that_the_script_has_open_is_used_and_left_open(
    train_with: TrainWith, tmp_path: Path
) -> None:
    import wandb

    class InThread(WandbCallback):
        delivery = "thread"

    own = wandb.init(project="own", dir=tmp_path / "own", settings=wandb.Settings(console="off"))
    try:
        trained = train_with(InThread())
        assert trained.trainer.tracker("wandb")["id"] == own.id
        assert wandb.run is own
        own.log({"mine": 1})
    finally:
        own.finish()
        wandb.teardown()
    (run,) = offline_runs(tmp_path / "own")
    assert run.points("train/loss") == trained.logged()["train/loss"]
    assert run.history[-1]["mine"] == 1
    assert not (trained.output_dir / "wandb").exists()


def test_it_is_set_up_where_it_has_a_key_or_needs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert WandbCallback.is_set_up()
    monkeypatch.delenv("WANDB_MODE")
    assert not WandbCallback.is_set_up()
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert WandbCallback.is_set_up()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert not WandbCallback.is_set_up()
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.delenv("WANDB_MODE")
    login = tmp_path / "netrc"
    login.write_text("machine api.wandb.ai login user password " + "k" * 40 + "\n")
    login.chmod(0o600)
    monkeypatch.setenv("NETRC", str(login))
    assert WandbCallback.is_set_up()
