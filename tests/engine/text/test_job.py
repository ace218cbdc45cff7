"""The text job learns, scores held-out text, goes on from its checkpoints and refuses others'."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from stepbus import ArgumentError, CheckpointError, DataError
from stepbus.engine.text.job import TextJob, saved_arguments
from stepbus.schemas.text_job_arguments import TextJobArguments

TEXT = "".join(f"{number} bottles of beer on the wall.\n" for number in range(150))


def arguments(folder: Path, **changes: Any) -> TextJobArguments:
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "block_size": 16,
        "num_layers": 1,
        "num_heads": 2,
        "width": 16,
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "num_eval_blocks": 8,
        "sample_length": 30,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TextJobArguments(**{**values, **changes})


def weights_of(job: TextJob) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in job.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_it_learns_and_reports_the_loss_in_nats_per_character(tmp_path: Path) -> None:
    job = TextJob(
        arguments(tmp_path, max_steps=120, eval_strategy="steps", eval_steps=60, width=32),
        text=TEXT,
    )
    summary = job.train()
    losses = [row["eval_loss"] for row in job.run.state.log_history if "eval_loss" in row]
    assert summary.status == "finished"
    assert len(losses) == 2
    assert losses[1] < losses[0] < torch.tensor(len(job.corpus.vocabulary)).log().item()
    assert losses[1] < 1.5


@pytest.mark.slow
def test_a_sample_moves_nothing_that_training_depends_on(tmp_path: Path) -> None:
    plain = TextJob(arguments(tmp_path / "plain", dropout=0.1), text=TEXT)
    plain.train()
    sampled = TextJob(arguments(tmp_path / "sampled", dropout=0.1), text=TEXT)
    before = sampled.sample()
    sampled.train()
    assert len(before) > 0
    assert same(weights_of(plain), weights_of(sampled))
    assert sampled.sample() == sampled.sample()


@pytest.mark.slow
def test_accumulated_micro_batches_train_like_one_batch(tmp_path: Path) -> None:
    whole = TextJob(arguments(tmp_path / "whole", per_device_train_batch_size=8), text=TEXT)
    parts = TextJob(
        arguments(tmp_path / "parts", per_device_train_batch_size=4, gradient_accumulation_steps=2),
        text=TEXT,
    )
    whole.train()
    parts.train()
    for name, tensor in weights_of(whole).items():
        torch.testing.assert_close(weights_of(parts)[name], tensor, rtol=1e-3, atol=1e-5)
    logged = [
        [row["loss"] for row in job.run.state.log_history if "loss" in row]
        for job in (whole, parts)
    ]
    assert logged[0] == pytest.approx(logged[1], rel=1e-4)


@pytest.mark.slow
def test_resume_gives_the_weights_of_the_unbroken_run(tmp_path: Path) -> None:
    unbroken = TextJob(arguments(tmp_path / "unbroken", dropout=0.1), text=TEXT)
    unbroken.train()
    saving = arguments(tmp_path / "broken", dropout=0.1, save_strategy="steps", save_steps=3)
    first = TextJob(saving, text=TEXT)
    first.train()
    resumed = TextJob(
        dataclasses.replace(saving, resume_from_checkpoint=str(tmp_path / "broken/checkpoint-3")),
        text=TEXT,
    )
    assert not same(weights_of(resumed), weights_of(unbroken))
    resumed.train()
    assert same(weights_of(first), weights_of(unbroken))
    assert same(weights_of(resumed), weights_of(unbroken))


@pytest.mark.slow
def test_bf16_trains_with_weights_in_float32(tmp_path: Path) -> None:
    job = TextJob(arguments(tmp_path, bf16=True), text=TEXT)
    job.train()
    assert {tensor.dtype for tensor in weights_of(job).values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in weights_of(job).values())


def test_gradients_are_not_clipped_where_the_norm_is_0(tmp_path: Path) -> None:
    free = TextJob(arguments(tmp_path / "free", max_grad_norm=0.0), text=TEXT)
    wide = TextJob(arguments(tmp_path / "wide", max_grad_norm=1e9), text=TEXT)
    free.train()
    wide.train()
    assert same(weights_of(free), weights_of(wide))


@pytest.mark.parametrize(
    ("changes", "text", "said"),
    [
        ({"width": 32}, TEXT, r"another model: width 16 there, 32 here\. Leave"),
        ({}, TEXT.upper(), r"checkpoint-2 does not fit the text\. The checkpoint knows"),
        ({"resume_from_checkpoint": "nowhere"}, TEXT, "There is no checkpoint folder"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_before_the_run(
    changes: dict[str, Any], text: str, said: str, tmp_path: Path
) -> None:
    saving = arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=2)
    TextJob(saving, text=TEXT).train()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    resumed = {"resume_from_checkpoint": str(tmp_path / "checkpoint-2"), **changes}
    with pytest.raises(CheckpointError, match=said):
        TextJob(dataclasses.replace(saving, **resumed), text=text)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_saved_arguments_are_those_of_the_run(tmp_path: Path) -> None:
    saving = arguments(tmp_path, max_steps=1, save_strategy="steps", save_steps=1, dropout=0.25)
    TextJob(saving, text=TEXT).train()
    assert saved_arguments(str(tmp_path)) == saving.to_dict()
    with pytest.raises(CheckpointError, match="nothing to resume in"):
        saved_arguments(str(tmp_path / "elsewhere"))


def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "never"
    with pytest.raises(DataError, match="The text has 5 characters"):
        TextJob(arguments(folder), text="short")
    with pytest.raises(ArgumentError, match="width 15 cannot be shared"):
        TextJob(arguments(folder, width=15), text=TEXT)
    with pytest.raises(DataError, match="There is no file"):
        TextJob(arguments(folder, files=["nowhere.txt"]))
    assert not folder.exists()


def test_a_long_heldout_text_is_scored_all_over(tmp_path: Path) -> None:
    job = TextJob(arguments(tmp_path, num_eval_blocks=3), text=TEXT * 3)
    subset = job._heldout()
    num_blocks = len(subset.dataset)  # type: ignore[arg-type]
    assert list(subset.indices) == [0, num_blocks // 3, 2 * num_blocks // 3]
