"""Arguments about the run as a whole, through the whole Trainer beside the reference."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.compat.apart import RESUMED
from tests.compat.pairs import LIBRARIES, make, of_both
from tests.differential.case import Case, Outcome, Session
from tests.differential.libraries import Library
from tests.differential.models import Regression

Check = Callable[[Case], Outcome]

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4}


class Limited(Regression):
    """Runs out of memory above a number of samples."""

    def __init__(self, most: int = 5) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        if self.training and len(x) > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return super().forward(x, labels)


def as_scripts_do(session: Session) -> None:
    """The skeleton of the reference's example scripts."""
    trainer = session.make()
    args = trainer.args
    checkpoint = args.resume_from_checkpoint
    session.results["asked for"] = (args.do_train, args.do_eval, args.do_predict, checkpoint)
    if args.do_train:
        session.results["train"] = trainer.train(resume_from_checkpoint=checkpoint)
    if args.do_predict:
        session.results["predict"] = trainer.predict(trainer.eval_dataset)


def resumed_by_argument(session: Session) -> None:
    """The argument alone resumes nothing; scripts hand it on."""
    session.make().train()
    folder = str(session.folder / "checkpoint-4")
    session.results["alone"] = session.make(resume_from_checkpoint=folder).train().global_step
    session.results["rows"] = len(session.trainer.state.log_history)


def counting(library: Library) -> list[Any]:
    """A callback whose state is in checkpoints."""
    export: Any = importlib.import_module("transformers.trainer_callback").ExportableState

    class Counter(library.TrainerCallback, export):  # type: ignore[misc,name-defined]
        count = 0

        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            self.count += 1

        def state(self) -> dict[str, Any]:
            return {"args": {}, "attributes": {"count": self.count}}

    return [Counter()]


def resumed_with_states(session: Session) -> None:
    session.make(max_steps=4).train()
    session.calls.clear()
    trainer = session.make()
    trainer.train(resume_from_checkpoint=True)
    names = [type(callback).__name__ for callback in trainer.callback_handler.callbacks]
    session.results["once"] = names.count("Counter")
    (counter,) = (c for c in trainer.callback_handler.callbacks if type(c).__name__ == "Counter")
    session.results["count"] = counter.count


CASES = [
    Case(
        "restore_callback_states_from_checkpoint",
        {
            "restore_callback_states_from_checkpoint": True,
            "save_strategy": "steps",
            "save_steps": 4,
            "num_train_epochs": 2,
        },
        callbacks=counting,
        script=resumed_with_states,
        except_for=(RESUMED,),
    ),
    Case(
        "do_train and do_predict",
        {"do_train": True, "do_predict": True, **EVALUATED},
        script=as_scripts_do,
    ),
    Case("do_train left out", {"do_predict": True}, script=as_scripts_do),
    Case(
        "resume_from_checkpoint, which train() does not read",
        {"save_strategy": "steps", "save_steps": 4, "max_steps": 8},
        script=resumed_by_argument,
    ),
    Case("resume_from_checkpoint, of nothing", {"resume_from_checkpoint": "nowhere"}),
    Case("local_rank -1", {"local_rank": -1}),
    Case("ddp_timeout", {"ddp_timeout": 5}),
    Case("average_tokens_across_devices", {"average_tokens_across_devices": False}),
    Case("data_seed", {"data_seed": 5, **EVALUATED}),
    Case("full_determinism", {"full_determinism": True, **EVALUATED}),
    Case("full_determinism, other seed", {"full_determinism": True, "seed": 8}),
    Case(
        "auto_find_batch_size, from 8",
        {"auto_find_batch_size": True, "per_device_train_batch_size": 8},
        Limited,
    ),
    Case(
        "auto_find_batch_size, from 6, with accumulation and evaluations",
        {
            "auto_find_batch_size": True,
            "per_device_train_batch_size": 6,
            "gradient_accumulation_steps": 2,
            **EVALUATED,
        },
        Limited,
    ),
    Case("auto_find_batch_size, at once", {"auto_find_batch_size": True}, Limited),
    Case("enable_jit_checkpoint", {"enable_jit_checkpoint": True, "save_strategy": "epoch"}),
]


@pytest.fixture(autouse=True)
def as_before() -> Any:
    """`full_determinism` is a matter of the whole process."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, before[1]


SLOW = ("restore_callback", "resume_from_checkpoint, which", "auto_find_batch_size, from")


def parameter(case: Case) -> Any:
    slow = case.name.startswith(SLOW)
    return pytest.param(case, id=case.name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("case", [parameter(case) for case in CASES])
def test_cases(check: Check, case: Case) -> None:
    check(case)


@LIBRARIES
def test_full_determinism_is_a_matter_of_the_whole_process(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "FLASH_ATTENTION_DETERMINISTIC")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    torch.use_deterministic_algorithms(False)
    make(library, tmp_path, full_determinism=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert [os.environ[name] for name in names] == ["1", ":16:8", "1"]


@LIBRARIES
def test_use_cpu_and_the_folder_are_obeyed(library: Library, tmp_path: Path) -> None:
    trainer = make(library, tmp_path, use_cpu=True, save_strategy="epoch", num_train_epochs=1)
    trainer.train()
    assert trainer.args.device == torch.device("cpu")
    assert {parameter.device.type for parameter in trainer.model.parameters()} == {"cpu"}
    assert trainer.args.output_dir == str(tmp_path / library.name)
    assert (tmp_path / library.name / "checkpoint-3").is_dir()


def test_a_trainer_without_arguments_has_those_of_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs, ours = of_both(lambda library: library.Trainer(Regression()).args)
    assert (ours.output_dir, ours.seed, ours.save_steps) == (
        theirs.output_dir,
        theirs.seed,
        theirs.save_steps,
    )
    assert ours.output_dir == "tmp_trainer"
