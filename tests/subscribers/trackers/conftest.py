"""A tiny training with a tracker, and what it logged: the expected side of every tracker's test.

A tracker's test reads back what the tracker itself wrote, in `reading/`, and compares it with
`Trained.logged`: what a callback on the training thread was given, which no tracker has touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stepbus import Log, Save, Subscriber, Trainer, TrainerCallback, TrainingArguments
from stepbus.subscribers.reporter import tracker_key
from stepbus.subscribers.trackers.experiment import CLOSING
from tests.engine.trainer.conftest import Regression, samples
from tests.subscribers.trackers.mlflow_server import MLflowServer, serving


class Settings:
    """The configuration of a model, as those of transformers have it."""

    def __init__(self) -> None:
        self.use_cache: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"model_type": "regression", "sizes": (8, 8, 1), "inner": {"bias": True}}


class ConfiguredRegression(Regression):
    """The tiny model, with a configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Settings()


class Rows(TrainerCallback):
    """Keeps what is logged, as a callback on the training thread sees it."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, Any]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logged.append((state.global_step, dict(logs)))


class Checkpoints(Subscriber):
    """Keeps the bytes of every checkpoint as it was when it was saved, and when what was logged."""

    def __init__(self) -> None:
        self.files: dict[int, dict[str, bytes]] = {}
        self.logged_at: dict[tuple[int, str], float] = {}

    def on_log(self, event: Log) -> None:
        self.logged_at.update({(event.step, name): event.time for name in event.logs})

    def on_save(self, event: Save) -> None:
        folder = Path(event.path)
        files = (path for path in folder.rglob("*") if path.is_file())
        self.files[event.step] = {str(f.relative_to(folder)): f.read_bytes() for f in files}


class Trained:
    """A trainer around a tiny model with one tracker, and what was logged."""

    def __init__(self, tracker: Any, folder: Path, fields: Mapping[str, Any]) -> None:
        self.output_dir = folder
        self.tracker = tracker
        self.checkpoints = Checkpoints()
        quiet = {
            "use_cpu": True,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "max_steps": 6,
            "save_strategy": "no",
            "eval_strategy": "steps",
            "eval_steps": 3,
            "logging_steps": 1,
            "disable_tqdm": True,
            "run_name": "tiny",
        }
        args = TrainingArguments(str(folder), **{**quiet, **fields})
        self.trainer = Trainer(
            model=ConfiguredRegression(),
            args=args,
            train_dataset=samples(),
            eval_dataset=samples(8, seed=2),
            callbacks=[tracker, self.checkpoints],
        )

        self.rows = Rows()
        self.trainer.add_callback(self.rows)

    @property
    def delivery(self) -> str:
        """Where the tracker worked."""
        name = type(self.tracker).__name__
        return next(row.delivery for row in self.trainer.ledger if row.subscriber == name)

    def logged(self, *, rewritten: bool = True) -> dict[str, list[tuple[int, float]]]:
        """Step and value of each point, by the tracker's name of it; closing figures left out."""
        found: dict[str, list[tuple[int, float]]] = {}
        for step, logs in self.rows.logged:
            for name, value in logs.items():
                if name not in CLOSING:
                    key = tracker_key(name) if rewritten else name
                    found.setdefault(key, []).append((step, value))
        return found

    def closing(self) -> dict[str, float]:
        """The closing figures of the last training, by name."""
        found: dict[str, float] = {}
        for _, logs in self.rows.logged:
            found.update({k: v for k, v in logs.items() if k in CLOSING})
        return found

    @property
    def params(self) -> dict[str, Any]:
        """Every argument, and the model's configuration, nested."""
        arguments = self.trainer.args.frozen_copy()
        return {**Settings().to_dict(), **arguments}

    def assert_nothing_failed(self) -> None:
        """The ledger has nothing against the tracker."""
        row = next(
            row for row in self.trainer.ledger if row.subscriber == type(self.tracker).__name__
        )
        assert (row.failures, row.quarantined, dict(row.dropped)) == (0, "", {})


TrainWith = Callable[..., Trained]


@pytest.fixture
def train_with(tmp_path: Path) -> TrainWith:
    """Trains with a tracker for six steps, evaluating twice; or, with `train=False`, only makes
    the trainer. Fields are those of `TrainingArguments`."""

    def make(tracker: Any, *, folder: str = "out", train: bool = True, **fields: Any) -> Trained:
        trained = Trained(tracker, tmp_path / folder, fields)
        if train:
            trained.trainer.train(resume_from_checkpoint=fields.get("resume_from_checkpoint"))
            trained.assert_nothing_failed()
        return trained

    return make


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Trackers find no login, no configuration and no cache of whoever runs the tests."""
    home = tmp_path_factory.mktemp("home")
    prefixes = ("WANDB_", "MLFLOW_", "COMET_", "CLEARML_", "SWANLAB_", "TRACKIO_", "DAGSHUB_")
    for name in list(os.environ):
        if name.startswith(
            (*prefixes, "HF_MLFLOW", "HF_DAGSHUB", "HF_DVCLIVE", "AZUREML", "CODECARBON")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # transformers imports comet_ml, which would then follow MLflow's runs of this process.
    monkeypatch.setenv("COMET_DISABLE_AUTO_LOGGING", "1")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of the session."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    (folder / "mlflow-server").mkdir(exist_ok=True)
    return folder / "mlflow-server"


@pytest.fixture(scope="session")
def empty_database(mlflow_server: MLflowServer, mlflow_folder: Path) -> Path:
    """An empty database of MLflow's, to be copied."""
    return mlflow_folder / "empty.db"


@pytest.fixture(scope="session")
def mlflow_server(mlflow_folder: Path) -> Iterator[MLflowServer]:
    """A server of MLflow's."""
    with serving(mlflow_folder) as server:
        yield server
