"""Arguments about logs, displays and trackers, through the whole Trainer beside the reference."""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from stepbus import EventBus, TrainBegin
from tests.compat.pairs import LIBRARIES, make, of_both
from tests.differential.case import Case, Outcome
from tests.differential.data import texts
from tests.differential.libraries import REFERENCE, STEPBUS, Library
from tests.differential.models import gpt2

Check = Callable[[Case], Outcome]

NAMES: dict[str, Any] = {
    "run_name": "a run",
    "project": "a project",
    "trackio_space_id": "space",
    "trackio_bucket_id": "bucket",
    "trackio_static_space_id": False,
}
TEXT: dict[str, Any] = {"train": texts(12), "eval": texts(5, seed=1)}

CASES = [
    Case(
        "log_level_replica and log_on_each_node",
        {"log_level_replica": "error", "log_on_each_node": False},
    ),
    Case("names", NAMES),
    *(
        Case(f"logging_nan_inf_filter {on}", {"logging_nan_inf_filter": on, "logging_steps": 3})
        for on in (True, False)
    ),
    *(
        Case(
            f"include_num_input_tokens_seen {which}",
            {"include_num_input_tokens_seen": which, "save_strategy": "epoch"},
            gpt2,
            **TEXT,
        )
        for which in ("all", "non_padding", True)
    ),
]


@pytest.fixture(autouse=True)
def levels_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("transformers", "stepbus", "accelerate")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases(check: Check, case: Case) -> None:
    check(case)


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical", "passive"])
def test_a_log_level_is_that_of_transformers_loggers(tmp_path: Path, level: str) -> None:
    def found(library: Library) -> list[int]:
        logging.getLogger("transformers").setLevel(logging.INFO)
        trainer = make(library, tmp_path, log_level=level, log_level_replica="debug")
        own = trainer.args.get_process_log_level()
        return [logging.getLogger("transformers").level, own]

    theirs, ours = of_both(found)
    assert ours == theirs
    assert ours[0] == (logging.INFO if level == "passive" else getattr(logging, level.upper()))


def test_a_log_level_is_that_of_stepbus_too(tmp_path: Path) -> None:
    make(STEPBUS, tmp_path, log_level="error")
    assert logging.getLogger("stepbus").level == logging.ERROR


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_the_display_is_that_of_the_reference(tmp_path: Path, disable_tqdm: bool) -> None:
    def names(library: Library) -> list[str]:
        trainer = make(library, tmp_path, disable_tqdm=disable_tqdm)
        return [type(callback).__name__ for callback in trainer.callback_handler.callbacks]

    theirs, ours = of_both(names)
    display = "PrinterCallback" if disable_tqdm else "ProgressCallback"
    assert ours == theirs == ["DefaultFlowCallback", display]


def test_the_printer_prints_the_figures_of_the_reference_but_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def keys(library: Library) -> list[list[str]]:
        make(library, tmp_path, max_steps=3).train()
        lines = capsys.readouterr().out.splitlines()
        rows = [ast.literal_eval(line) for line in lines if line.startswith("{")]
        return [sorted(set(row) - {"train_samples_per_second"}) for row in rows]

    theirs, ours = of_both(keys)
    assert ours == theirs
    assert len(ours) == 4


def test_the_names_for_trackers_travel_with_the_events(tmp_path: Path) -> None:
    bus, begun = EventBus(), []

    @bus.subscribe(TrainBegin)
    def note(event: TrainBegin) -> None:
        begun.append(event)

    make(STEPBUS, tmp_path, given={"bus": bus}, max_steps=1, **NAMES).train()
    (event,) = begun
    assert event.run_name == "a run"
    assert {name: event.arguments[name] for name in NAMES} == NAMES
    args = make(REFERENCE, tmp_path, **NAMES).args
    assert {name: getattr(args, name) for name in NAMES} == NAMES


@LIBRARIES
def test_nothing_reports_under_none(library: Library, tmp_path: Path) -> None:
    trainer = make(library, tmp_path, report_to="none", max_steps=1)
    trainer.train()
    assert not list(tmp_path.rglob("events.out.tfevents.*"))


@pytest.mark.slow
def test_tensorboard_has_the_scalars_of_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.delenv("STEPBUS_REPORT_TO", raising=False)

    def scalars(library: Library) -> Any:
        arguments = {"report_to": ["tensorboard"], "max_steps": 4, "eval_strategy": "epoch"}
        make(library, tmp_path, **arguments).train()
        (file,) = (tmp_path / library.name).rglob("events.out.tfevents.*")
        found = accumulator.EventAccumulator(str(file)).Reload()
        tags = found.Tags()["scalars"]
        timed = {tag for tag in tags if "per_second" in tag or "runtime" in tag}
        rows = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in tags}
        return sorted(tags), {tag: row for tag, row in rows.items() if tag not in timed}

    theirs, ours = of_both(scalars)
    assert ours == theirs
    assert "train/loss" in ours[0]
