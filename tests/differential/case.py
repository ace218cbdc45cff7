"""One configuration, and what a library's Trainer makes of it."""

from __future__ import annotations

import dataclasses
import json
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.differential.data import samples
from tests.differential.differences import Difference
from tests.differential.libraries import Library
from tests.differential.models import Regression
from tests.differential.recording import (
    FLAGS,
    Call,
    checkpoints,
    digest_of_generators,
    make_recorder,
    rates,
    relative,
    state_fields,
)

QUIET: dict[str, Any] = {
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "num_train_epochs": 2,
    "learning_rate": 0.02,
    "logging_steps": 1,
    "save_strategy": "no",
}
TRAIN, EVAL = samples(22), samples(10, seed=1)
ONLY_OF_THE_REFERENCE = {
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "training_args.bin",
}
"""Files of a checkpoint that are no pickles, or have other names, in stepbus."""


class Session:
    """A trainer that is being put through a case's script.

    Attributes:
        trainer: the present one.
        results: what was called gave back, by name; all of it is compared.
    """

    def __init__(self, case: Case, library: Library, folder: Path) -> None:
        self.case = case
        self.library = library
        self.folder = folder
        self.calls: list[Call] = []
        self.results: dict[str, Any] = {}
        self.trainer: Any = None

    def make(self, **changed: Any) -> Any:
        """A fresh trainer, with some arguments changed; it becomes `trainer`."""
        case, library = self.case, self.library
        arguments = {**QUIET, **case.arguments, **changed}
        recorder = make_recorder(library.TrainerCallback, self.calls, self.folder)
        keywords: dict[str, Any] = {
            "train_dataset": case.train(),
            "eval_dataset": case.eval(),
            **case.trainer(library),
        }
        if "model_init" not in keywords:
            torch.manual_seed(7)
            keywords["model"] = case.model()
        if case.optimizers is not None:
            keywords["optimizers"] = case.optimizers(keywords["model"])
        kind = library.Trainer if case.subclass is None else case.subclass(library.Trainer)
        self.trainer = kind(
            args=library.TrainingArguments(str(self.folder), **arguments),
            callbacks=[*case.callbacks(library), recorder],
            **keywords,
        )
        return self.trainer


def just_train(session: Session) -> None:
    """The script of most cases."""
    session.results["train"] = session.make().train()


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration; whatever makes objects is called afresh for each library.

    Attributes:
        arguments: of `TrainingArguments`, over those in `QUIET`.
        trainer: further arguments of the Trainer.
        callbacks: those before the recorder.
        optimizers: makes the pair from the model.
        subclass: makes a subclass of the library's Trainer.
        script: what is called, in which order.
        quick: belongs to the few that `make check` runs.
        except_for: differences on purpose that this case runs into.
    """

    name: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: Callable[[], nn.Module] = Regression
    train: Callable[[], Any] = TRAIN
    eval: Callable[[], Any] = EVAL
    trainer: Callable[[Library], dict[str, Any]] = lambda library: {}
    callbacks: Callable[[Library], list[Any]] = lambda library: []
    optimizers: Callable[[nn.Module], tuple[Any, Any]] | None = None
    subclass: Callable[[Any], Any] | None = None
    script: Callable[[Session], None] = just_train
    quick: bool = False
    except_for: tuple[Difference, ...] = ()


@dataclasses.dataclass
class Outcome:
    """What came of a case."""

    error: str = ""
    calls: list[Call] = dataclasses.field(default_factory=list)
    results: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    state: dict[str, Any] = dataclasses.field(default_factory=dict)
    end: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Flags, learning rates, generators, training mode when all is done."""
    folders: list[str] = dataclasses.field(default_factory=list)
    files: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """By checkpoint, but for those that are of the reference alone."""
    json: dict[str, Any] = dataclasses.field(default_factory=dict)
    """`trainer_state.json` by checkpoint."""
    weights: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    saved_weights: dict[str, dict[str, torch.Tensor]] = dataclasses.field(default_factory=dict)
    optimizer: dict[str, Any] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)

    @property
    def hooks(self) -> list[str]:
        """The names of the hooks in the order of their calls."""
        return [call.hook for call in self.calls]

    def of(self, hook: str) -> list[Call]:
        """The calls of one hook."""
        return [call for call in self.calls if call.hook == hook]

    def steps(self, hook: str) -> list[int]:
        """The steps at which one hook was called."""
        return [call.step for call in self.of(hook)]


def run(case: Case, library: Library, folder: Path) -> Outcome:
    """Runs a case with one library in a fresh folder."""
    session = Session(case, library, folder)
    outcome = Outcome(calls=session.calls, results=session.results)
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            case.script(session)
        except Exception as error:
            outcome.error = f"{type(error).__name__}: {error}"
    outcome.warnings = [f"{w.category.__name__}: {w.message}" for w in caught]
    if session.trainer is not None:
        observe(outcome, session.trainer, folder)
    return outcome


def observe(outcome: Outcome, trainer: Any, folder: Path) -> None:
    """Adds to an outcome what is left when all is done."""
    state = trainer.state
    outcome.history = [dict(row) for row in state.log_history]
    outcome.state = {"step": state.global_step, "epoch": state.epoch} | state_fields(state, folder)
    outcome.end = {
        "flags": [flag for flag in FLAGS if getattr(trainer.control, flag)],
        "generators": digest_of_generators(),
        "training": trainer.model.training,
        "is_in_train": trainer.is_in_train,
    }
    outcome.weights = {k: v.detach().clone() for k, v in trainer.model.state_dict().items()}
    if trainer.optimizer is not None:
        outcome.end["learning_rates"] = rates(trainer.optimizer)
        outcome.optimizer = trainer.optimizer.state_dict()
    if trainer.lr_scheduler is not None:
        outcome.end["last_lr"] = [float(rate) for rate in trainer.lr_scheduler.get_last_lr()]
    outcome.folders = checkpoints(folder)
    for name in outcome.folders:
        observe_checkpoint(outcome, folder, name)


def observe_checkpoint(outcome: Outcome, folder: Path, name: str) -> None:
    """Adds what one checkpoint holds."""
    from safetensors.torch import load_file

    path = folder / name
    names = {file.name for file in path.iterdir()}
    outcome.files[name] = sorted(names - ONLY_OF_THE_REFERENCE)
    outcome.json[name] = relative(json.loads((path / "trainer_state.json").read_text()), folder)
    for file in path.glob("*model.safetensors"):
        outcome.saved_weights[name] = load_file(file)
