"""In a forked child the bus is inert, and the parent does not notice."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from stepbus.bus import EventBus
from stepbus.bus.testing import Recorder
from stepbus.schemas import BusClosedError, Log, TrainerState, Vote

recorder = Recorder()
with EventBus() as bus:
    bus.subscribe("step_end", "log")(recorder)

    @bus.subscribe("step_end")
    async def asynchronous(event): pass

    link = bus.open_run(TrainerState(), run_id="run")
    emitter = link.emitters["step_end"]
    link.emit("step_end")
    held = threading.Event(); release = threading.Event()

    def hold_the_lock():
        with bus._roster.lock:
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold_the_lock)
    holder.start()
    held.wait(30)
    pid = os.fork()
    if pid == 0:
        refused = []
        def expect(name, call):
            try:
                call()
            except BusClosedError as error:
                assert "was forked from the one that trains" in str(error), error
                refused.append(name)
        expect("emit", lambda: link.emit("step_end"))
        expect("emitter", lambda: emitter.emit({}))
        expect("unwanted", lambda: link.emit("save"))
        expect("publish", lambda: bus.publish(Log(logs={})))
        expect("vote", lambda: bus.vote("save"))
        expect("run's vote", lambda: link.votes.post(Vote("save")))
        expect("subscribe", lambda: bus.subscribe("log"))
        expect("unsubscribe", lambda: bus.unsubscribe(recorder))
        expect("events", lambda: bus.events("log"))
        expect("start", lambda: bus.start())
        names = [t.name for t in threading.enumerate()]
        bus.flush()
        bus.close()
        assert len(refused) == 10, refused
        assert names == ["MainThread"], names
        print("child is inert", flush=True)
        if len(sys.argv) > 1:
            sys.exit(0)  # leaves the with block as well
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    release.set()
    holder.join()
    assert status == 0, status
    link.emit("step_end")
    bus.vote("save")
    assert bus.flush(20)
    assert link.votes.has_votes
assert recorder.kinds == ["step_end", "step_end"]
print("parent goes on")
"""


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    expected = (0, "child is inert\nparent goes on\n", "")
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_a_forked_child_refuses_and_ends_and_the_parent_goes_on() -> None:
    run()


def test_a_forked_child_may_leave_the_with_block() -> None:
    run("sys.exit")
