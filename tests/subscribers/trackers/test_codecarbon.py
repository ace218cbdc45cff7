"""What CodeCarbon has of a run, in its file and on the bus."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from stepbus import ArgumentError, CodeCarbonCallback, EventBus, JSONLHistory
from stepbus.schemas import TrainerState
from tests.subscribers.test_in_a_sidecar import kill_the_sidecar
from tests.subscribers.trackers.conftest import Trained, TrainWith
from tests.subscribers.trackers.reading.codecarbon import InThread, Row, TellsWhom, rows_of

pytestmark = pytest.mark.slow

NAMES = {"energy_kwh", "cpu_energy_kwh", "gpu_energy_kwh", "ram_energy_kwh", "emissions_kg"}
FRENCH: dict[str, Any] = {"country_iso_code": "FRA", "measure_power_secs": 1}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it would look up is refused at once, on loopback."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")


def measured(trained: Trained) -> dict[str, list[tuple[int, float]]]:
    logged = trained.logged(rewritten=False)
    return {name: logged.get(name, []) for name in NAMES}


def assert_ends_in(points: dict[str, list[tuple[int, float]]], rows: list[Row]) -> None:
    """The file has what was logged last, and what was taken since."""
    for name, values in points.items():
        assert values, name
        assert [value for _, value in values] == sorted(value for _, value in values)
        assert values[-1][1] <= sum(row.values[name] for row in rows) + 1e-15


def test_energy_and_emissions_are_values_of_the_run_and_a_row_of_its_file(
    train_with: TrainWith, capfd: pytest.CaptureFixture[str]
) -> None:
    trained = train_with(CodeCarbonCallback(**FRENCH), train=False, logging_steps=3)
    trainer = trained.trainer
    trainer.add_callback(JSONLHistory())
    output = trainer.train()
    trained.assert_nothing_failed()
    assert trained.delivery == "process"
    (row,) = rows_of(trained.output_dir)
    assert trainer.tracker("codecarbon") == {"id": row.run_id, "folder": str(trained.output_dir)}
    assert (row.run_id, row.project) == (f"{trainer.run_id}-1", "tiny")
    assert (row.country, row.mode) == ("FRA", "machine")
    parts = ("cpu_energy_kwh", "gpu_energy_kwh", "ram_energy_kwh")
    assert sum(row.values[part] for part in parts) == pytest.approx(row.values["energy_kwh"])
    assert row.values["emissions_kg"] > 0
    # On the bus: other subscribers have each value, at its step, and so have the closing figures.
    points = measured(trained)
    assert_ends_in(points, [row])
    assert points["energy_kwh"][-1][0] == 6
    lines = (trained.output_dir / "history.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    for name in NAMES:
        found = [(e["step"], e["logs"][name]) for e in events if name in e["logs"]]
        assert found == points[name]
        assert output.metrics[name] == points[name][-1][1]
    assert trainer.summary is not None
    assert output.metrics.items() <= trainer.summary.metrics.items()
    # Nothing of its own on the terminal, and no lock.
    assert "[codecarbon" not in "".join(capfd.readouterr())
    assert not Path(tempfile.gettempdir(), ".codecarbon.lock").exists()


def test_each_session_is_a_row_and_the_values_go_on_from_those_before(
    train_with: TrainWith,
) -> None:
    threads = {thread.name for thread in threading.enumerate()}
    trained = train_with(InThread(**FRENCH), train=False, save_strategy="steps", save_steps=6)
    trainer = trained.trainer
    trainer.evaluate()
    trainer.train()
    trainer.predict(trainer.eval_dataset)
    rows = rows_of(trained.output_dir)
    assert [row.run_id for row in rows] == [f"{trainer.run_id}-{n}" for n in (1, 2, 3)]
    points = measured(trained)
    assert_ends_in(points, rows[:2])
    assert points["energy_kwh"][0][1] >= rows[0].values["energy_kwh"]
    # A resumed training goes on as well; in a session of several calls each is measured by itself.
    second = train_with(InThread(**FRENCH), train=False, max_steps=9)
    with second.trainer as resumed:
        resumed.train(resume_from_checkpoint=True)
        resumed.evaluate()
    rows = rows_of(trained.output_dir)
    assert [row.run_id for row in rows] == [f"{trainer.run_id}-{n}" for n in range(1, 6)]
    points = measured(second)
    assert points["energy_kwh"][0][1] >= sum(row.values["energy_kwh"] for row in rows[:3])
    assert_ends_in(points, rows[:4])
    left = {t.name for t in threading.enumerate() if t.is_alive()} - threads
    assert not [name for name in left if "Timer" in name or "stepbus" in name]


class BreaksAtStepFour(Exception): ...


def test_what_a_training_that_fails_has_taken_is_in_the_file(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECARBON_PROJECT_NAME", "mine")
    monkeypatch.setenv("CODECARBON_OUTPUT_FILE", "co2.csv")
    monkeypatch.setenv("CODECARBON_COUNTRY_ISO_CODE", "DEU")
    trained = train_with(InThread(), train=False)
    step = trained.trainer.training_step

    def training_step(*args: Any, **kwargs: Any) -> Any:
        if trained.trainer.state.global_step == 4:
            raise BreaksAtStepFour("on purpose")
        return step(*args, **kwargs)

    trained.trainer.training_step = training_step  # type: ignore[method-assign]
    with pytest.raises(BreaksAtStepFour):
        trained.trainer.train()
    (trained.output_dir / "co2.csv").rename(trained.output_dir / "emissions.csv")
    (row,) = rows_of(trained.output_dir)
    assert (row.project, row.country) == ("mine", "DEU")
    assert row.values["energy_kwh"] > 0


def test_without_a_country_or_a_network_it_is_the_worlds_average_and_that_is_said(
    train_with: TrainWith, caplog: pytest.LogCaptureFixture
) -> None:
    trained = train_with(InThread())
    (row,) = rows_of(trained.output_dir)
    assert row.country == ""
    assert row.values["emissions_kg"] == pytest.approx(0.475 * row.values["energy_kwh"])
    assert "CodeCarbon could not look up which country this machine is in" in caplog.text


def test_by_process_it_measures_the_training_and_a_killed_one_goes_on(tmp_path: Path) -> None:
    with EventBus() as bus:
        tracker = TellsWhom(tracking_mode="process", **FRENCH)
        bus.subscribe(tracker, delivery="process", required=True)
        bus.wait_ready()
        state = TrainerState(max_steps=2)
        link = bus.open_run(state, run_id="killed")
        link.emit("init_end", {"output_dir": str(tmp_path)})
        link.emit("train_begin", {"output_dir": str(tmp_path)})
        state.global_step = 1
        link.emit("epoch_end")
        assert bus.flush(60)
        assert tracker._found["pids"] == str(os.getpid())
        before = link.measured.take()
        assert before.keys() == NAMES
        kill_the_sidecar()
        state.global_step = 2
        link.emit("epoch_end")
        assert bus.flush(60)
        after = link.measured.take()
        assert tracker._found["pids"] == str(os.getpid())
        link.emit("train_end")
        assert bus.flush(60)
        row = bus.ledger["TellsWhom"]
        assert (row.failures, row.quarantined) == (0, "")
    first, second = rows_of(tmp_path)
    assert [row.run_id for row in (first, second)] == ["killed-1", "killed-2"]
    assert first.mode == second.mode == "process"
    for name in NAMES:
        assert first.values[name] == before[name]
        assert before[name] <= after[name] <= first.values[name] + second.values[name] + 1e-15  # type: ignore[operator]


def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    with EventBus() as bus:
        bus.subscribe(InThread(**FRENCH), required=True)
        bus.wait_ready()
        links = {}
        for name in ("one", "two"):
            links[name] = bus.open_run(TrainerState(max_steps=1), run_id=name)
            fields = {"output_dir": str(tmp_path / name), "run_name": name}
            links[name].emit("init_end", fields)
            links[name].emit("train_begin", fields)
        for link in links.values():
            link.state.global_step = 1
            link.emit("epoch_end")
        assert bus.flush(60)
        taken = {name: link.measured.take() for name, link in links.items()}
        links["one"].emit("train_end")
        links["two"].emit("run_failed", {"error": "E", "message": "m", "traceback": ""})
        assert bus.flush(60)
        assert bus.ledger["InThread"].failures == 0
    assert not Path(tempfile.gettempdir(), ".codecarbon.lock").exists()
    for name, values in taken.items():
        (row,) = rows_of(tmp_path / name)
        assert (row.run_id, row.project) == (f"{name}-1", name)
        for key in NAMES:
            assert values[key] <= row.values[key]  # type: ignore[operator]


def test_what_cannot_work_is_an_error_before_the_first_step(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ArgumentError, match="tracking_mode is 'all': it must be 'machine' or 'process'"
    ):
        CodeCarbonCallback(tracking_mode="all")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="measure_power_secs is 0: give seconds"):
        CodeCarbonCallback(measure_power_secs=0)
    monkeypatch.setenv("CODECARBON_TRACKING_MODE", "all")
    with pytest.raises(ArgumentError, match="CODECARBON_TRACKING_MODE is 'all': it must be"):
        train_with(InThread())


def test_it_is_set_up_where_anything_is_said_about_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not CodeCarbonCallback.is_set_up()
    (tmp_path / ".codecarbon.config").write_text("[codecarbon]\ncountry_iso_code = FRA\n")
    assert CodeCarbonCallback.is_set_up()
    (tmp_path / ".codecarbon.config").unlink()
    monkeypatch.setenv("CODECARBON_COUNTRY_ISO_CODE", "FRA")
    assert CodeCarbonCallback.is_set_up()
