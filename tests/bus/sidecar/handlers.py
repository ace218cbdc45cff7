"""Handlers for the tests of delivery `process`, in a module that another process can import."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Literal

from stepbus.bus import Subscriber
from stepbus.schemas import (
    Event,
    Log,
    Measured,
    RunFailed,
    Save,
    StepbusError,
    StepEnd,
    TrainBegin,
    TrainEnd,
    Vote,
)

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
        if fields["name"] == "open":
            line = "\n" + line  # A former process may have been killed in the middle of one.
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


class RunsSeen(Subscriber):
    """Writes down how runs ended."""

    def __init__(self, path: str) -> None:
        self.writer = Writer(path)

    def made_with(self) -> dict[str, Any]:
        return {"path": self.writer.path}

    def on_train_begin(self, event: TrainBegin) -> None:
        self.writer.write(name=event.name, run_id=event.run_id)

    def on_train_end(self, event: TrainEnd) -> None:
        self.writer.write(name=event.name, run_id=event.run_id)

    def on_run_failed(self, event: RunFailed) -> None:
        told = {"error": event.error, "message": event.message, "step": event.step}
        self.writer.write(name=event.name, run_id=event.run_id, **told)

    def close(self) -> None:
        self.writer.write(name="close")


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


class States(Writer):
    """Writes the state that comes with each event."""

    def on_event(self, event: Event) -> None:
        try:
            state = event.state
        except StepbusError as error:
            self.write(name=event.name, none=str(error))
            return
        values = {k: v for k, v in vars(state).items() if k != "log_history"}
        rows = [dict(row) for row in state.log_history]
        self.write(name=event.name, step=event.step, values=repr(values), rows=repr(rows))


class Crashing(Writer):
    """Has its process crash at some steps: at each time, or while a file is missing."""

    def __init__(self, path: str, at: int, until: str = "") -> None:
        super().__init__(path)
        self.at, self.until = at, until

    def made_with(self) -> dict[str, Any]:
        return {"path": self.path, "at": self.at, "until": self.until}

    def on_step_end(self, event: StepEnd) -> Vote:
        self.write(name="step_end", step=event.step)
        if event.step == self.at and not (self.until and Path(self.until).exists()):
            if self.until:
                Path(self.until).touch()
            os.kill(os.getpid(), signal.SIGUSR1)  # As an abort, without a core file.
            FOREVER.wait()
        return Vote("save", voter=f"at {event.step}")


class CrashingInOpen(Writer):
    """Has its process crash before it is set up."""

    def open(self) -> None:
        self.write(name="open")
        os._exit(3)


class CrashingInClose(Writer):
    """Has its process crash when it is torn down."""

    def close(self) -> None:
        self.write(name="close")
        os._exit(4)


def measures(event: StepEnd) -> Measured:
    """Measures what is not finite too."""
    return Measured({"step_seen": event.step, "nan": math.nan, "text": "\u00e4"})


class Slow(Writer):
    """Does not return from some step, while a file is missing; votes for each."""

    def __init__(self, path: str, at: int, until: str = "") -> None:
        super().__init__(path)
        self.at, self.until = at, until

    def made_with(self) -> dict[str, Any]:
        return {"path": self.path, "at": self.at, "until": self.until}

    def on_step_end(self, event: StepEnd) -> Vote:
        self.write(name="step_end", step=event.step)
        while event.step == self.at and not (self.until and Path(self.until).exists()):
            FOREVER.wait(0.01)
        return Vote("save", voter=f"at {event.step}")


class NeverOpen(Writer):
    """Does not return from its set-up."""

    def open(self) -> None:
        self.write(name="open")
        FOREVER.wait()

    def on_log(self, event: Log) -> None: ...


class Uploader(Writer):
    """Holds on to a checkpoint beyond its handler, until a file is there."""

    def on_save(self, event: Save) -> None:
        def upload() -> None:
            with event.lease.hold("upload"):
                held.set()
                wait_for_file(event)

        held = threading.Event()
        threading.Thread(target=upload, daemon=True).start()
        held.wait()
        self.write(name="save")


class Stuck(Writer):
    """Returns from nothing but its set-up."""

    def on_step_end(self, event: StepEnd) -> None:
        self.write(name="step_end", step=event.step)
        FOREVER.wait()


def is_even(event: StepEnd) -> bool:
    return event.step % 2 == 0


def say(event: StepEnd) -> None:
    print(f"printed {event.step}", flush=True)


handler_of_a_lambda = lambda event: None  # noqa: E731


def lines_of(path: str | Path) -> list[dict[str, Any]]:
    """What `Writer`s have written, but for a line that one is writing, or was killed at."""
    lines = []
    for line in Path(path).read_text(encoding="utf-8").split("\n")[:-1]:
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


class Lost(Writer):
    """Cannot tell where it writes."""

    def whereabouts(self) -> dict[str, str]:
        raise ValueError("lost")


class Deaf(Writer):
    """Tells where it writes, and cannot take it."""

    def whereabouts(self) -> dict[str, str]:
        return {"folder": self.path}

    def learn_whereabouts(self, found: Any) -> None:
        raise ValueError("deaf")


class Heeding(Subscriber):
    """Waits in its handler, or in its teardown, until it is told that the time is nearly over."""

    def __init__(self, path: str, waits_in: str = "") -> None:
        self.path = path
        self.waits_in = waits_in
        self.told = threading.Event()

    def made_with(self) -> dict[str, Any]:
        return {"path": self.path, "waits_in": self.waits_in}

    def write(self, name: str) -> None:
        line = json.dumps({"name": name, "thread": threading.get_ident()})
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def work(self, name: str) -> None:
        if name == self.waits_in:
            self.write("waits")
            self.told.wait(60)
        self.write(name)

    def on_step_end(self, event: StepEnd) -> None:
        self.work("step_end")

    def hurry(self) -> None:
        self.write("hurry")
        self.told.set()

    def close(self) -> None:
        self.work("close")
