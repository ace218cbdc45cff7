"""The loops of the parts do what they claim: naive ones, an aged run, a look at a device."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cuda_work, hostile_subscribers, hosts_loops, naive, uploads_loops
from benchmarks.aged_loops import LOGGING_STEPS, aged
from benchmarks.cuda_inspection import covered
from benchmarks.growth import OLD, YOUNG
from stepbus.engine.bench.equal_work import Work, digest
from stepbus.engine.bench.loops import StepWatch, TurnsOver, raw

ROOT = Path(__file__).parents[2]


class Leaving(StepWatch):
    """Has the loop left after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def __call__(self) -> None:
        if not self.left:
            raise TurnsOver
        self.left -= 1


@pytest.mark.parametrize("bare", [False, True])
def test_an_aged_run_has_done_and_logged_every_step(bare: bool) -> None:
    watch = Leaving(10)
    aged(Work(8, 100, batch_size=4), watch, age=200, bare=bare)
    assert watch.facts["steps"] == 210
    assert watch.facts["log_rows"] == watch.facts["steps"] // LOGGING_STEPS
    assert watch.facts["mb"] > 0
    assert YOUNG < OLD


def test_naive_loops_call_the_handler_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setitem(naive.HANDLERS, "sleeps", lambda: calls.append(1))
    work = Work(8, 5, batch_size=4)
    model = naive.inline(work, StepWatch(), handler="sleeps")
    assert len(calls) == 5
    watch = StepWatch()
    threaded = naive.queue_and_thread(work, watch, handler="sleeps")
    assert digest(model) == digest(threaded) == digest(raw(work, StepWatch()))
    assert watch.facts["waiting"] >= 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_with_readers_trains_as_one_without_and_is_read(backend: str) -> None:
    work, watch = Work(8, 20, batch_size=4), StepWatch()
    read = hosts_loops.read(work, watch, logging_steps=5, backend=backend)
    unread = hosts_loops.unread(work, StepWatch(), logging_steps=5)
    assert digest(read) == digest(unread) == digest(raw(work, StepWatch()))
    most = hosts_loops.READERS * 5  # four logs and the closing figures
    assert hosts_loops.READERS <= watch.facts["read"] <= most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loop", "options"),
    [
        ("copying", {}),
        ("uploading", {"where": "thread"}),
        ("uploading", {"where": "process", "max_mb_per_s": 500.0}),
    ],
)
def test_a_loop_beside_an_upload_trains_as_one_without_and_uploads(
    loop: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    class Patient(StepWatch):
        """Waits before the second step until something has been uploaded."""

        steps = 0

        def __call__(self) -> None:
            self.steps += 1
            deadline = time.monotonic() + 60
            while self.steps == 2 and not counts:
                assert time.monotonic() < deadline, "nothing was uploaded"
                counts.extend(tmp_path.glob("*/count"))
                time.sleep(0.01)

    counts: list[Path] = []
    work, watch = Work(8, 5, batch_size=4), Patient()
    model = getattr(uploads_loops, loop)(work, watch, mb=1, **options)
    assert digest(model) == digest(raw(work, StepWatch()))
    assert watch.facts["uploaded_mb"] >= 1


def test_hostile_subscribers_take_the_time_that_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(now) * 1e-3)
    hostile_subscribers.burn()
    assert next(now) >= hostile_subscribers.BURN_S * 1e3
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    hostile_subscribers.sleep()
    assert slept == [0.020]


@pytest.mark.parametrize("loop", ["raw", "run", "stepbus_trainer", "transformers_trainer"])
def test_loops_of_the_device_part_run_where_there_is_none(loop: str) -> None:
    watch = Leaving(4)
    leave: Any = getattr(cuda_work, loop)
    with contextlib.suppress(TurnsOver):
        leave(Work(1, 10), watch, kind="tiny", device="cpu")
    assert watch.left == 0


def test_the_gpt_has_124_million_parameters() -> None:
    shape = cuda_work.SHAPES["124M"]
    per_layer = 12 * shape.width**2 + 13 * shape.width
    total = (
        (shape.vocabulary + shape.block) * shape.width + shape.layers * per_layer + 2 * shape.width
    )
    assert round(total / 1e6) == 124
    tiny = cuda_work.SHAPES["tiny"]
    counted = sum(p.numel() for p in cuda_work.GPT(tiny).parameters())
    assert counted == (
        (tiny.vocabulary + tiny.block) * tiny.width
        + tiny.layers * (12 * tiny.width**2 + 13 * tiny.width)
        + 2 * tiny.width
    )


def test_time_covered_by_kernels_counts_once_where_they_overlap() -> None:
    assert covered([]) == 0.0
    assert covered([(0, 10), (20, 30)]) == 20.0
    assert covered([(20, 30), (0, 10), (5, 22), (6, 7)]) == 30.0


@pytest.mark.slow
def test_memory_of_a_bus_with_a_stuck_subscriber_is_measured_in_a_process_without_torch() -> None:
    program = (
        "import runpy, sys\n"
        "sys.argv = ['memory', 'stuck', '20000']\n"
        "runpy.run_module('benchmarks.memory', run_name='__main__')\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["handled"] == 0
    assert result["pending"] + result["dropped"] >= 19_999
    assert result["mb"] > 0
