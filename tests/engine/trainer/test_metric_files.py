"""The printed table and the files are the reference's, character by character."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stepbus import TrainerState
from stepbus.engine.trainer.metric_files import TrainerMetricFiles
from stepbus.schemas.errors import DataError

theirs: Any = import_module("transformers.trainer_pt_utils")
callbacks: Any = import_module("transformers.trainer_callback")

METRICS = {
    "train_runtime": 3723.4567,
    "train_loss": 0.123456789,
    "total_flos": 5 * 2**30 + 1,
    "train_mem_gpu_peaked_delta": 7 << 20,
    "eval_samples": 12,
    "eval_name": "text",
    "eval_broken": math.nan,
    "eval_worse": math.inf,
    "epoch": 3.0,
}


class Host(TrainerMetricFiles):
    def __init__(self, output_dir: Path, *, first: bool = True) -> None:
        self.args = SimpleNamespace(output_dir=str(output_dir))
        self.state = TrainerState()
        self.first = first

    def is_world_process_zero(self) -> bool:
        return self.first


@pytest.fixture
def ours(tmp_path: Path) -> Host:
    return Host(tmp_path / "ours")


@pytest.fixture
def reference(tmp_path: Path) -> Any:
    (tmp_path / "reference").mkdir()
    return SimpleNamespace(
        args=SimpleNamespace(output_dir=str(tmp_path / "reference")),
        state=callbacks.TrainerState(),
        is_world_process_zero=lambda: True,
    )


def files(host: Any) -> dict[str, str]:
    return {path.name: path.read_text() for path in Path(host.args.output_dir).iterdir()}


def test_metrics_are_formatted_like_the_references(ours: Host) -> None:
    expected = theirs.metrics_format(METRICS)
    # NaN is unequal to itself.
    assert str(ours.metrics_format(METRICS)) == str(expected)
    assert str(Host.metrics_format(METRICS)) == str(expected)
    assert METRICS["train_loss"] == 0.123456789


@pytest.mark.parametrize("metrics", [METRICS, {"eval_runtime": 0.987}, {"a": True, "bcd": -2}])
def test_the_printed_table_is_the_references(
    ours: Host, reference: Any, metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    theirs.log_metrics(reference, "eval", metrics)
    expected = capsys.readouterr().out
    ours.log_metrics("eval", metrics)
    assert capsys.readouterr().out == expected


def test_no_metrics_print_the_heading_alone(ours: Host, capsys: pytest.CaptureFixture[str]) -> None:
    ours.log_metrics("eval", {})
    assert capsys.readouterr().out == "***** eval metrics *****\n"


def test_the_files_are_the_references(ours: Host, reference: Any) -> None:
    for host, save in ((reference, theirs.save_metrics), (ours, TrainerMetricFiles.save_metrics)):
        save(host, "all", {"first": 1})
        save(host, "train", METRICS)
        save(host, "eval", {"eval_loss": math.nan, "epoch": 4.0})
        save(host, "test", {"test_loss": 1.5}, combined=False)

    assert files(ours) == files(reference)
    assert '"eval_loss": NaN' in files(ours)["eval_results.json"]
    assert math.isnan(json.loads(files(ours)["all_results.json"])["eval_loss"])


def test_metrics_that_json_cannot_spell_leave_the_former_file_whole(ours: Host) -> None:
    ours.save_metrics("eval", {"eval_loss": 1.0})
    before = files(ours)

    with pytest.raises(TypeError):
        ours.save_metrics("eval", {"eval_loss": object()})

    assert files(ours) == before


@pytest.mark.parametrize("text", ["{", "3"])
def test_a_damaged_file_of_all_results_is_named(ours: Host, text: str) -> None:
    ours.save_metrics("eval", {"eval_loss": 1.0})
    path = Path(ours.args.output_dir) / "all_results.json"
    path.write_text(text)

    with pytest.raises(DataError, match=r"all_results\.json holds no metrics"):
        ours.save_metrics("eval", {"eval_loss": 2.0})

    assert path.read_text() == text


def test_the_state_is_written_so_that_the_reference_reads_it(ours: Host) -> None:
    ours.state.global_step, ours.state.epoch = 7, 0.5
    ours.save_state()

    read = callbacks.TrainerState.load_from_json(
        str(Path(ours.args.output_dir) / "trainer_state.json")
    )

    assert (read.global_step, read.epoch) == (7, 0.5)


def test_other_ranks_print_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Host(tmp_path, first=False)
    host.log_metrics("eval", METRICS)
    host.save_metrics("eval", METRICS)
    host.save_state()
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []
