"""What DVCLive has of a run: read from the files that it wrote, in repositories and without."""

from __future__ import annotations

import io
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stepbus import ArgumentError, DVCLiveCallback, EventBus
from stepbus.schemas import TrainerState
from stepbus.subscribers.trackers.dvclive import SPLITS
from tests.subscribers.test_in_a_sidecar import kill_the_sidecar
from tests.subscribers.trackers.conftest import Trained, TrainWith
from tests.subscribers.trackers.reading.dvclive import FolderRun

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_settings_of_dvc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_STUDIO_TOKEN", "DVCLIVE_TEST", "DVCLIVE_RESUME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path.parent / "dvc-site"))
    monkeypatch.chdir(tmp_path)


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Git repository in the working directory, with a commit."""
    git("init", "-q")
    git("config", "user.name", "a")
    git("config", "user.email", "a@b.c")
    (tmp_path / ".gitignore").write_text("out/\n")
    git("add", ".")
    git("commit", "-qm", "first")
    return tmp_path


def named(name: str) -> str:
    """DVCLive's name of what was logged."""
    split, _, rest = name.partition("_")
    return f"{split}/{rest}" if split in SPLITS else name


def logged(trained: Trained) -> dict[str, list[tuple[int, float]]]:
    return {named(name): rows for name, rows in trained.logged(rewritten=False).items()}


def files_around(folder: Path) -> dict[str, bytes]:
    """Everything in it, `out` and what the run kept there left out."""
    files = (path for path in folder.rglob("*") if path.is_file())
    places = {path.relative_to(folder).as_posix(): path for path in files}
    return {k: path.read_bytes() for k, path in places.items() if not k.startswith("out/")}


def test_a_training_is_there_whole_and_the_repository_is_as_it_was(
    train_with: TrainWith, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DVCLIVE_LOG_MODEL", "all")
    before = files_around(repository)
    trained = train_with(
        DVCLiveCallback(), train=False, save_strategy="steps", save_steps=3, save_total_limit=1
    )
    picture = io.BytesIO()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(picture, "JPEG")
    with trained.trainer as trainer:
        trainer.evaluate()
        trainer.train()
        trainer.log_image("pictures/first", picture.getvalue())
        trainer.log_text("notes/end", "it is done")
        trainer.evaluate(metric_key_prefix="test")
    trained.assert_nothing_failed()
    assert trained.delivery == "process"
    assert files_around(repository) == before
    run = FolderRun(trained.output_dir / "dvclive")
    where = trainer.tracker("dvclive")
    assert where == {"id": trainer.run_id, "folder": str(run.folder)}
    # Every value of every step, at the optimizer's step.
    assert run.all_points() == logged(trained)
    assert [step for step, _ in run.all_points()["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in run.all_points()["eval/loss"]] == [0, 3, 6]
    # Every parameter.
    expected = json.loads(json.dumps(trained.params))
    assert {name: run.params.get(name, "missing") for name in expected} == expected
    assert run.params["model/num_parameters"] == 81
    # What is said once, and the newest of the others.
    closing = {name.removeprefix("train_"): value for name, value in trained.closing().items()}
    total_flos = closing.pop("total_flos")
    assert run.summary["train"] == closing
    assert (run.summary["total_flos"], run.summary["step"]) == (total_flos, 6)
    assert run.summary["eval"]["loss"] == logged(trained)["eval/loss"][-1][1]
    assert run.summary["stepbus"] == {"status": "finished"}
    # Each checkpoint, though rotation has deleted the first, and what else was logged.
    assert [path.name for path in trained.output_dir.glob("checkpoint-*")] == ["checkpoint-6"]
    assert run.files("artifacts") == {
        f"checkpoint-{step}/{path}": data
        for step, files in trained.checkpoints.files.items()
        for path, data in files.items()
    } | {"notes/end/step-6/end.txt": b"it is done"}
    assert run.files("plots", "images") == {"pictures/first/6.jpg": picture.getvalue()}


@pytest.mark.filterwarnings("ignore")  # dvc's own, where it is in this process
def test_attempts_sessions_and_replacements_share_a_folder_and_repeat_nothing(
    tmp_path: Path,
) -> None:
    folder = str(tmp_path / "out")
    for attempt in (1, 2):
        with EventBus() as bus:
            where: Any = "process" if attempt == 2 else "thread"
            bus.subscribe(DVCLiveCallback(), delivery=where, required=True)
            state = TrainerState(global_step=10 * (attempt - 1))
            link = bus.open_run(state, run_id="r", attempt=attempt)
            arguments = {"seed": 1, "max_steps": 10 * attempt, "a": {"b": 1, "c": attempt}}
            link.emit("init_end", {"output_dir": folder})
            link.emit("train_begin", {"output_dir": folder, "arguments": arguments})
            for step in range(10 * attempt - 9, 10 * attempt + 1):
                state.global_step = step
                odd = {"loss/inner": 0.5, "../../up": 1.0, "step": 2.0, "/etc/x": 3.0}
                value = math.nan if step == 5 else math.inf if step == 6 else 1 / step
                link.emit("log", {"logs": {"loss": value, "word": "x", **odd}})
                if step == 15:
                    assert bus.flush(60)
                    kill_the_sidecar()
            if attempt == 1:
                values = {"error": "ValueError", "message": "m", "traceback": ""}
                link.emit("run_failed", values)
            else:
                link.emit("train_end", {"status": "stopped", "reason": "why", "stopped_by": "me"})
            assert bus.flush(60)
            assert bus.ledger["DVCLiveCallback"].failures == 0
        summary = FolderRun(tmp_path / "out" / "dvclive").summary
        kinds = {1: {"status": "failed", "reason": "ValueError: m"}}
        kinds[2] = {"status": "stopped", "reason": "why", "stopped_by": "me"}
        assert summary["stepbus"] == kinds[attempt]
    run = FolderRun(tmp_path / "out" / "dvclive")
    assert run.params["a"] == {"b": 1, "c": 2}
    (run.folder / "plots" / "metrics" / "word.tsv").unlink()  # It has no numbers.
    points = run.all_points()
    losses = [value for _, value in points["loss"]]
    assert [step for step, _ in points["loss"]] == list(range(1, 21))
    assert (math.isnan(losses[4]), losses[5]) == (True, math.inf)
    assert losses[6:] == [1 / step for step in range(7, 21)]
    # No name leaves the folder, or is taken for another.
    steps = range(1, 21)
    assert points["loss_inner_"] == [(step, 0.5) for step in steps]
    assert points["up"] == [(step, 1.0) for step in steps]
    assert points["step_"] == [(step, 2.0) for step in steps]
    assert points["etc/x"] == [(step, 3.0) for step in steps]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


class InThread(DVCLiveCallback):
    """In the sidecar, which gives way to everyone, DVC takes long on a machine that is busy."""

    delivery = "thread"


@pytest.mark.filterwarnings("ignore")
def test_dvc_gets_an_experiment_and_the_model_where_that_is_asked(
    train_with: TrainWith, repository: Path
) -> None:
    trained = train_with(
        InThread(log_model=True, save_dvc_exp=True, dir="live", exp_name="mine"),
        save_strategy="steps",
        save_steps=3,
        load_best_model_at_end=True,
    )
    run = FolderRun(repository / "live")
    assert run.all_points() == logged(trained)
    best = int(str(trained.trainer.state.best_model_checkpoint).rpartition("-")[2])
    kept = FolderRun.files_in(repository / "live_artifacts" / "best")
    assert kept == trained.checkpoints.files[best]
    refs = git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    refs = [ref for ref in refs if not ref.startswith("refs/exps/exec/")]
    assert [ref.rpartition("/")[2] for ref in refs] == ["mine"]
    there = git("show", f"{refs[0]}:live/metrics.json")
    assert json.loads(there) == run.summary
    paths = git("ls-tree", "-r", "--name-only", refs[0]).split()
    assert "live_artifacts/best.dvc" in paths
    assert not any(path.startswith("live_artifacts/best/") for path in paths)
    assert "live/metrics.json" in git("show", f"{refs[0]}:dvc.yaml")


@pytest.mark.filterwarnings("ignore")  # dvc's own, in this process for once
def test_a_live_of_the_script_is_used(train_with: TrainWith, tmp_path: Path) -> None:
    from dvclive.live import Live

    live = Live(str(tmp_path / "own"), save_dvc_exp=False, dvcyaml=None)
    trained = train_with(DVCLiveCallback(live), train=False)
    trained.trainer.train()
    trained.trainer.evaluate(metric_key_prefix="later")
    assert trained.delivery == "thread"
    run = FolderRun(tmp_path / "own")
    assert run.all_points() == logged(trained)
    assert "later_loss" in run.all_points()
    assert run.params["seed"] == 42
    assert not (trained.output_dir / "dvclive").exists()


@pytest.mark.filterwarnings("ignore")
def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    with EventBus() as bus:
        bus.subscribe(DVCLiveCallback(), delivery="thread", required=True)
        links = {}
        for name in ("one", "two"):
            links[name] = bus.open_run(TrainerState(), run_id=name)
            values = {"output_dir": str(tmp_path / name), "arguments": {"which": name}}
            links[name].emit("train_begin", values)
        for step in range(1, 6):
            for factor, name in enumerate(links, 1):
                links[name].state.global_step = step
                links[name].emit("log", {"logs": {"loss": float(step * factor)}})
        for link in links.values():
            link.emit("train_end")
        assert bus.flush(60)
        assert bus.ledger["DVCLiveCallback"].failures == 0
    for factor, name in enumerate(("one", "two"), 1):
        run = FolderRun(tmp_path / name / "dvclive")
        assert run.params["which"] == name
        assert run.all_points() == {"loss": [(n, float(n * factor)) for n in range(1, 6)]}


def test_what_cannot_work_is_an_error_before_the_first_step(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArgumentError, match="log_model is 'evry': it must be true, false or 'all'"):
        DVCLiveCallback(log_model="evry")
    with pytest.raises(ArgumentError, match="live is 'live': it must be a dvclive"):
        DVCLiveCallback("live")
    monkeypatch.setenv("HF_DVCLIVE_LOG_MODEL", "sometimes")
    with pytest.raises(ArgumentError, match="HF_DVCLIVE_LOG_MODEL is 'sometimes'"):
        train_with(DVCLiveCallback())


@pytest.mark.parametrize(
    ("value", "uploads"), [("TRUE", "end"), ("1", "end"), ("all", "checkpoint"), ("False", "no")]
)
def test_what_is_uploaded_is_what_the_variable_says(
    value: str, uploads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DVCLIVE_LOG_MODEL", value)
    tracker: Any = DVCLiveCallback()
    tracker.open()
    assert tracker.uploads == uploads


def test_it_is_set_up_in_a_repository_of_dvc_or_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not DVCLiveCallback.is_set_up()
    monkeypatch.setenv("HF_DVCLIVE_LOG_MODEL", "all")
    assert DVCLiveCallback.is_set_up()
    monkeypatch.delenv("HF_DVCLIVE_LOG_MODEL")
    (tmp_path / ".dvc").mkdir()
    assert DVCLiveCallback.is_set_up()
