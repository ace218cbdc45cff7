"""A type checker knows the event of each handler, and finds the wrong ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What stepbus imports when it is used, torch and the trackers, takes mypy over a minute.
CONFIG = """
[mypy]
follow_imports = skip
[mypy-stepbus.*,pydantic.*]
follow_imports = normal
"""

PROGRAM = """
from stepbus.bus import EventBus, Subscriber, on
from stepbus.bus.testing import Recorder
from stepbus.schemas import Event, Log, Save, StepEnd

bus = EventBus()


@bus.subscribe("step_end")
def by_name(event: StepEnd) -> None: ...


@bus.subscribe("step_end", every=100, when=lambda event: True, delivery="gate")
def with_options(event: StepEnd) -> None: ...


@bus.subscribe(Save)
async def by_class(event: Save) -> None: ...


@bus.subscribe("*")
def everything(event: Event) -> None: ...


@bus.subscribe("log")
def takes_any(event: Event) -> None: ...


@bus.subscribe(Log, Save)
def two(event: Log | Save) -> None: ...


@bus.subscribe("log", "save", Save)
def several(event: Log | Save) -> None: ...


class Probe:
    def method(self, event: Log) -> None: ...


bus.subscribe("log")(Probe().method)
reveal_type(by_name)  # R: def (StepEnd)
reveal_type(bus.subscribe("log"))  # R: Decorator[Log]
reveal_type(bus.subscribe("save", every=5))  # R: Decorator[Save]
reveal_type(bus.subscribe(StepEnd))  # R: Decorator[StepEnd]
reveal_type(bus.subscribe(Log, Save))  # R: Decorator[Log | Save]
reveal_type(bus.subscribe("*"))  # R: Decorator[Event]
reveal_type(bus.subscribe(Recorder()))  # R: Recorder
reveal_type(Recorder().wait_for(Log))  # R: list[Log]
bus.subscribe("step_end")(lambda event: event.loss)
bus.subscribe("log")(lambda event: event.logs)
bus.subscribe("log")(lambda event: event.loss)  # E: attr-defined
bus.subscribe("save", evry=5)  # E: call-overload
bus.subscribe("save", every="5")  # E: call-overload
bus.subscribe("save", delivery="tread")  # E: call-overload


@bus.subscribe("step_end")  # E: arg-type
def wrong_event(event: Log) -> None: ...


@bus.subscribe(Save)  # E: arg-type
def wrong_class(event: Log) -> None: ...


@bus.subscribe(Log, Save)  # E: arg-type
def only_one(event: Log) -> None: ...


@bus.subscribe("*")  # E: arg-type
def not_everything(event: Log) -> None: ...


@bus.subscribe("log")  # E: arg-type
def no_event() -> None: ...
"""


@pytest.mark.slow
def test_handlers_are_typed_by_the_event_they_are_subscribed_to(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    config = tmp_path / "mypy.ini"
    config.write_text(CONFIG)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--hide-error-context",
            "--config-file",
            str(config),
            "--cache-dir",
            str(tmp_path / "cache"),
            str(program),
        ],
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        match = re.match(r".*program\.py:(\d+): (error|note): (.*)", line)
        if match:
            number = int(match[1])
            found[number] = found.get(number, "") + match[3].replace("stepbus.schemas.event.", "")
    lines = PROGRAM.splitlines()
    for number, line in enumerate(lines, 1):
        said = re.sub(r"[\w.]+\.(\w+)", r"\1", found.pop(number, ""))
        if "  # E: " in line:
            assert f"[{line.partition('  # E: ')[2]}]" in said, (line, said, done.stdout)
        elif "  # R: " in line:
            assert line.partition("  # R: ")[2] in said, (line, said, done.stdout)
        else:
            assert said == "", (line, said)
    assert found == {}, done.stdout + done.stderr
    assert done.returncode == 1, done.stdout + done.stderr
