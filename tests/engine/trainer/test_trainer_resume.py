"""A resumed training is bit for bit the unbroken one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset

from stepbus import CheckpointError, Trainer, TrainerCallback
from tests.engine.trainer.conftest import Watcher, samples, weights

Make = Callable[..., Trainer]


class Stream(IterableDataset):  # type: ignore[type-arg]
    """Samples without a length; each pass draws its noise anew."""

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for sample in samples():
            yield {"x": sample["x"] + 0.1 * torch.randn(8), "labels": sample["labels"]}


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 4, "num_train_epochs": 4},
    "workers": {"dataloader_num_workers": 1},
    "iterable": {"max_steps": 12},
    "iterable and accumulation": {"max_steps": 9, "gradient_accumulation_steps": 2},
    "grouped by length": {"train_sampling_strategy": "group_by_length"},
    "sequential": {"train_sampling_strategy": "sequential"},
    "evaluations": {"eval_strategy": "steps", "eval_steps": 3},
    "plateau": {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": 0},
        "metric_for_best_model": "loss",
    },
    "bf16": {"bf16": True},
}


def given(name: str) -> dict[str, Any]:
    if name.startswith("iterable"):
        return {"train_dataset": Stream()}
    if name == "grouped by length":
        data = [{**sample, "input_ids": list(range(i % 5))} for i, sample in enumerate(samples())]
        return {"train_dataset": data}
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 5])
@pytest.mark.parametrize("name", list(CASES))
def test_from_any_step_it_goes_on_as_if_it_had_not_been_broken(
    make_trainer: Make, tmp_path: Path, name: str, step: int
) -> None:
    fields = {"save_strategy": "steps", "save_steps": 1, "logging_strategy": "steps"}
    fields |= {"logging_steps": 2, **CASES[name]}
    unbroken = make_trainer(given=given(name), **fields)
    unbroken.train()
    resumed = make_trainer(given=given(name), **{**fields, "save_strategy": "no"})
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{step}"))
    assert weights(resumed) == weights(unbroken)
    assert resumed.state.global_step == unbroken.state.global_step
    assert history(resumed) == history(unbroken)


def history(trainer: Trainer) -> list[dict[str, Any]]:
    timed = ("runtime", "per_second")
    return [
        {name: value for name, value in row.items() if not name.endswith(timed)}
        for row in trainer.state.log_history
    ]


def test_true_takes_up_the_last_checkpoint(make_trainer: Make) -> None:
    class Stops(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            control.should_training_stop = state.global_step == 7

    fields: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3}
    first = Watcher()
    make_trainer(given={"callbacks": [Stops(), first]}, **fields).train()
    second = Watcher()
    trainer = make_trainer(given={"callbacks": [second]}, **fields)
    trainer.train(resume_from_checkpoint=True)
    begin, former = second.of("train_begin")[0], first.of("train_begin")[0]
    assert str(begin.resumed_from).endswith("checkpoint-6")
    assert (begin.run_id, begin.attempt) == (former.run_id, 2)
    assert trainer.state.global_step == 12


def test_nothing_to_resume_from_is_an_error_before_anything_changes(make_trainer: Make) -> None:
    trainer = make_trainer()
    before = weights(trainer)
    with pytest.raises(CheckpointError, match="holds no whole checkpoint"):
        trainer.train(resume_from_checkpoint=True)
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        trainer.train(resume_from_checkpoint="nowhere")
    assert weights(trainer) == before
    assert trainer.train().global_step == 12


def test_weights_alone_are_refused_for_a_resume_and_loaded_as_the_best(
    make_trainer: Make, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {
        "save_only_model": True,
        "save_strategy": "epoch",
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
    }
    trainer = make_trainer(**fields)
    trainer.train()
    assert trainer.state.best_model_checkpoint is not None
    with pytest.raises(CheckpointError, match="save_only_model"):
        make_trainer(**fields).train(resume_from_checkpoint=trainer.state.best_model_checkpoint)


def test_the_best_and_the_last_are_never_rotated_away(make_trainer: Make, tmp_path: Path) -> None:
    losses = iter([1.0, 0.1, 0.5, 0.6])
    trainer = make_trainer(
        given={"compute_metrics": lambda prediction: {"score": next(losses)}},
        num_train_epochs=4,
        save_strategy="epoch",
        eval_strategy="epoch",
        metric_for_best_model="score",
        greater_is_better=False,
        load_best_model_at_end=True,
        save_total_limit=1,
    )
    trainer.train()
    left = sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*"))
    assert left == ["checkpoint-12", "checkpoint-24"]
    assert trainer.state.best_global_step == 12


def test_an_evaluation_alone_deletes_no_checkpoint(make_trainer: Make, tmp_path: Path) -> None:
    make_trainer(save_strategy="steps", save_steps=4).train()
    other = make_trainer(given={"eval_dataset": samples(8)}, save_total_limit=1)
    other.evaluate()
    assert len(list((tmp_path / "out").glob("checkpoint-*"))) == 3
