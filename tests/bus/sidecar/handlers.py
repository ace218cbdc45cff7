"""Handlers for the tests of delivery `process`, in a module that another process can import."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Literal

from stepbus.bus import Subscriber
from stepbus.schemas import Event, Log, RunFailed, Save, StepEnd, Vote

FOREVER = threading.Event()


class Spike(Event):
    """An event of a user's own."""

    name: Literal["test_spike"] = "test_spike"
    ratio: float


class Writer(Subscriber):
    """Writes a line for each event into a file, with the process that wrote it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def made_with(self) -> dict[str, Any]:
        return {"path": self.path}

    def write(self, **fields: Any) -> None:
        line = json.dumps({"pid": os.getpid(), **fields}) + "\n"
        # In one write, whole: a test may kill this process at any moment.
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(line)

    def open(self) -> None:
        self.write(name="open")

    def on_event(self, event: Event) -> None:
        self.write(
            name=event.name,
            seq=event.seq,
            step=event.step,
            run_id=event.run_id,
            time=event.time,
            made=type(event).__name__,
            content=event.to_json().decode(),
        )

    def close(self) -> None:
        self.write(name="close", torch="torch" in sys.modules)


class Placed(Writer):
    """Writes how its process is placed."""

    def on_step_end(self, event: StepEnd) -> None:
        signals = ("SIGINT", "SIGTERM", "SIGHUP")
        self.write(
            name="placed",
            nice=os.nice(0),
            group=os.getpgid(0),
            session=os.getsid(0),
            cwd=str(Path.cwd()),
            ignored=[signal.getsignal(getattr(signal, s)) is signal.SIG_IGN for s in signals],
            modules=sorted({name.partition(".")[0] for name in sys.modules}),
            engine="stepbus.engine" in sys.modules,
        )


class Filtered(Writer):
    """Takes few events."""

    def on_run_failed(self, event: RunFailed) -> None:
        self.write(name=event.name, error=event.error)


class WithoutConstructor(Subscriber):
    """Needs no arguments."""

    def on_log(self, event: Log) -> None: ...


class Mute(Subscriber):
    """Has a constructor, and does not say what it was made with."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_log(self, event: Log) -> None: ...


class OtherConstructor(Writer):
    """What it inherits does not know its constructor."""

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(f"{folder}/{name}")


class BadSetUp(Subscriber):
    """Cannot be set up."""

    def open(self) -> None:
        raise ConnectionError("no server")

    def on_log(self, event: Log) -> None: ...


class BadConstructor(Subscriber):
    """Can be made where the trainer is, and not elsewhere."""

    def __init__(self, trainer: int) -> None:
        if os.getpid() != trainer:
            raise RuntimeError("not here")

    def on_log(self, event: Log) -> None: ...


def save_at_three(event: StepEnd) -> list[Vote] | None:
    if event.step != 3:
        return None
    return [Vote("save", reason="three"), Vote("log", reason="three too")]


def ignore(event: Event) -> None: ...


def fail(event: StepEnd) -> None:
    raise ValueError(f"no {event.step}")


def fail_once(event: StepEnd) -> None:
    if not getattr(fail_once, "failed", False):
        fail_once.failed = True  # type: ignore[attr-defined]
        raise ValueError("at first")


def hang(event: Event) -> None:
    FOREVER.wait()


def wait_for_file(event: Save) -> None:
    """Returns once the file beside the checkpoint's folder is there."""
    while not Path(f"{event.path}.go").exists():
        FOREVER.wait(0.005)


def is_even(event: StepEnd) -> bool:
    return event.step % 2 == 0


def say(event: StepEnd) -> None:
    print(f"printed {event.step}", flush=True)


handler_of_a_lambda = lambda event: None  # noqa: E731


def lines_of(path: str | Path) -> list[dict[str, Any]]:
    """What a `Writer` has written."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
