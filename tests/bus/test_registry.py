"""Which subscribers have names, and what report_to makes of them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stepbus.bus import Subscriber
from stepbus.bus.registry import GROUP, OWN, Registry, describe, resolve_report_to
from stepbus.bus.shapes import both_shapes
from stepbus.schemas import ArgumentError, Log
from stepbus.schemas.errors import DeliveryError
from stepbus.subscribers import CSVHistory, TensorBoardCallback, Tracker

ROOT = Path(__file__).parents[2]
NO_ENV: dict[str, str] = {}


class Cloud(Tracker):
    tracker_name: ClassVar[str] = "cloud"
    needs_login: ClassVar[bool] = True
    logged_in: ClassVar[bool] = False

    @classmethod
    def is_set_up(cls) -> bool:
        return cls.logged_in

    @both_shapes
    def on_log(self, event: Log) -> None: ...


class Absent(Tracker):
    tracker_name: ClassVar[str] = "absent"
    package: ClassVar[str] = "a_package_that_is_not_there"
    extra: ClassVar[str] = "wandb"

    @both_shapes
    def on_log(self, event: Log) -> None: ...


class Plain(Subscriber):
    def on_log(self, event: Log) -> None: ...


def registry(*more: EntryPoint, **classes: type) -> Registry:
    mine = [EntryPoint(n, f"{__name__}:{c.__name__}", GROUP) for n, c in classes.items()]
    return Registry([*mine, *more])


def test_the_own_names_are_those_that_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"][GROUP] == dict(OWN)


def test_every_own_name_loads_a_class() -> None:
    names = Registry([]).names()
    assert names == sorted(OWN)
    for name in names:
        found = Registry([]).load(name)
        assert f"{found.__module__}:{found.__name__}" == OWN[name]


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    program = """
        import sys
        from stepbus.bus.registry import Registry
        registry = Registry()
        registry.names()
        assert not [name for name in sys.modules if name.startswith("stepbus.subscribers")]
        registry.load("tensorboard")
        assert not {"torch", "tensorboard", "matplotlib"} & set(sys.modules), sorted(sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_another_package_adds_its_own() -> None:
    assert registry(cloud=Cloud).load("cloud") is Cloud


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="'tensorbord': did you mean 'tensorboard'"):
        Registry([]).load("tensorbord")


def install(folder: Path, name: str, entry: str) -> EntryPoint:
    """Puts the metadata of a distribution into a folder and gives back its entry point."""
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry}\n")
    (found,) = distributions(path=[str(folder)])
    (point,) = found.entry_points
    return point


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:Thing", "cannot be imported (ModuleNotFoundError"),
        ("stepbus.schemas:Thing", "cannot be imported (AttributeError"),
        ("stepbus.schemas:Log", "no class derived from Subscriber or TrainerCallback"),
        ("stepbus.schemas:parse_event", "no class derived from Subscriber or TrainerCallback"),
    ],
)
def test_a_broken_entry_names_its_distribution(tmp_path: Path, value: str, message: str) -> None:
    broken = Registry([install(tmp_path, "bad-tracker", f"bad = {value}")])
    with pytest.raises(DeliveryError) as caught:
        broken.load("bad")
    assert "bad-tracker 1.5" in str(caught.value)
    assert message in str(caught.value)


def test_a_name_that_two_packages_declare_is_refused_naming_both(tmp_path: Path) -> None:
    other = install(tmp_path, "other", "csv = other.history:CSVHistory")
    with pytest.raises(DeliveryError) as caught:
        Registry([other]).load("csv")
    assert "stepbus.subscribers.history:CSVHistory" in str(caught.value)
    assert "other 1.5" in str(caught.value)


def test_an_entry_that_is_found_twice_counts_once() -> None:
    again = EntryPoint("csv", OWN["csv"], GROUP)
    assert Registry([again, again]).load("csv") is CSVHistory


def attached(report_to: Any, chosen: Registry, environ: dict[str, str] = NO_ENV) -> list[str]:
    """The names; of stepbus's own trackers TensorBoard stands for all."""
    others = {name for name, value in OWN.items() if ".trackers." in value}
    choices = resolve_report_to(report_to, chosen, environ)
    return [c.name for c in choices if c.attached and c.name not in others]


def test_unset_means_the_trackers_that_are_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = registry(cloud=Cloud, absent=Absent, plain=Plain)
    assert attached(None, chosen) == ["tensorboard"]
    monkeypatch.setattr(Cloud, "logged_in", True)
    assert attached(None, chosen) == ["cloud", "tensorboard"]


def test_all_means_the_installed_trackers_without_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = registry(cloud=Cloud, absent=Absent, plain=Plain)
    monkeypatch.setattr(Cloud, "logged_in", True)
    assert attached("all", chosen) == attached(["all"], chosen) == ["tensorboard"]
    assert attached(["csv", "all"], chosen) == ["csv", "tensorboard"]


@pytest.mark.parametrize("nothing", ["none", ["none"], [], ()])
def test_none_means_nothing(nothing: Any) -> None:
    assert resolve_report_to(nothing, Registry([]), NO_ENV) == []


def test_names_are_attached_in_their_order_and_once() -> None:
    chosen = registry(cloud=Cloud, plain=Plain)
    choices = resolve_report_to(["plain", "cloud", "csv", "cloud"], chosen, NO_ENV)
    assert [choice.subscriber for choice in choices] == [Plain, Cloud, CSVHistory]
    assert all(choice.asked_for for choice in choices)


@pytest.mark.parametrize(
    ("report_to", "message"),
    [
        ("w&b", r"no tracker 'w&b': did you mean 'wandb'"),
        ("neptune", "'neptune' cannot be reported to: the service closed in March 2026"),
        ("tensorbord", "no tracker 'tensorbord': did you mean 'tensorboard'"),
        (["csv", "absent"], r"'absent' was asked for and is not installed: .*'stepbus\[wandb\]'"),
        ("default_flow", "'default_flow' is no reporter but DefaultFlowCallback"),
        ("progress", "'progress' is no reporter but ProgressCallback"),
        (["none", "csv"], "'none' among other names"),
        (3, "report_to=3"),
        ([None], r"report_to=\[None\]"),
    ],
)
def test_what_cannot_be_attached_is_refused(report_to: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        resolve_report_to(report_to, registry(absent=Absent), NO_ENV)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("none", []), ("csv, jsonl", ["csv", "jsonl"]), ("all", ["tensorboard"]), ("", ["csv"])],
)
def test_the_environment_overrides(variable: str, expected: list[str]) -> None:
    environ = {"STEPBUS_REPORT_TO": variable}
    assert attached("csv", registry(cloud=Cloud), environ) == expected


def test_an_error_in_the_environment_names_the_variable() -> None:
    with pytest.raises(ArgumentError, match="STEPBUS_REPORT_TO=tensorbord: there is no tracker"):
        resolve_report_to(None, Registry([]), {"STEPBUS_REPORT_TO": "tensorbord"})


def test_the_line_tells_what_reports_and_why_the_rest_does_not(tmp_path: Path) -> None:
    broken = install(tmp_path, "bad-tracker", "broken = no_such_module:Thing")
    chosen = registry(broken, cloud=Cloud, absent=Absent)
    line = describe(resolve_report_to(None, chosen, NO_ENV))
    assert line.startswith(
        "reporting to tensorboard; not to absent (not installed: pip install 'stepbus[wandb]'), "
    )
    assert ", broken (broken: The subscriber 'broken' of bad-tracker 1.5" in line
    assert ", cloud (not set up)" in line
    assert describe([]) == "reporting to no tracker"


def test_a_folder_named_like_a_package_does_not_count_as_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_package_that_is_not_there").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not Absent.is_installed()
    assert TensorBoardCallback.is_installed()
