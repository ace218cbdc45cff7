"""Ctrl-C and SIGTERM: saved, stopped, and the program ends as the signal asked for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stepbus import TrainingRun
from stepbus.engine.signals import StopSignals

if TYPE_CHECKING:
    from tests.engine.conftest import Loop

PROGRAM = Path(__file__).parent / "signalled_run.py"
TIMEOUT_S = 60


def run(output_dir: Path, **plan: Any) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(output_dir), json.dumps({"signals": {}} | plan)],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"')]
    assert len(lines) == 1, done.stderr + done.stdout
    return done.returncode, json.loads(lines[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "ended", "code"),
    [(signal.SIGINT, "KeyboardInterrupt", -signal.SIGINT), (signal.SIGTERM, "SystemExit", 143)],
)
def test_the_first_signal_saves_stops_and_ends_the_program(
    tmp_path: Path, number: signal.Signals, ended: str, code: int
) -> None:
    returned, result = run(tmp_path, signals={"2": number})
    assert returned == code
    assert result == {
        "installed": True,
        "ended": ended,
        "restored": True,
        "step": 3,
        "status": "stopped",
        "reason": f"{number.name} was received",
        "saved": ["3"],
        "heard": [],
    }


@pytest.mark.slow
def test_a_second_ctrl_c_interrupts_at_once(tmp_path: Path) -> None:
    # The second comes while the run waits for a subscriber that hangs.
    returned, result = run(tmp_path, signals={"2": signal.SIGINT}, hang=True)
    assert returned == -signal.SIGINT
    assert (result["ended"], result["status"], result["saved"]) == (
        "KeyboardInterrupt",
        "failed",
        ["3"],
    )
    assert result["restored"]


@pytest.mark.slow
def test_a_handler_of_the_programs_own_is_called_too_and_put_back(tmp_path: Path) -> None:
    returned, result = run(tmp_path, signals={"2": signal.SIGINT}, own=True)
    assert returned == -signal.SIGINT
    assert (result["heard"], result["restored"], result["saved"]) == (["own"], True, ["3"])


def test_none_is_installed_by_default_or_off_the_main_thread(loop: Loop) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen: list[bool] = []

    def train(handle_signals: bool) -> None:
        with TrainingRun(
            loop.arguments(max_steps=1), model=loop.model, handle_signals=handle_signals
        ) as run:
            for _ in run.steps(loop.loader):
                now = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
                seen.append(now == before)
                run.end_step()

    train(False)
    thread = threading.Thread(target=train, args=(True,))
    thread.start()
    thread.join()
    assert seen == [True, True]


def test_a_handler_only_notes_the_signal_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert (signals.received, signals.unheard) == (signal.SIGINT, ["SIGINT"])
        left_s = signals.left_s(30)
        assert left_s is not None
        assert 29 < left_s <= 30
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        signals.finish()
    assert StopSignals().left_s(30) is None


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGTERM)
            assert signals.received is None
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_off_the_main_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []

    def enter() -> None:
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_save_that_took_longer_than_the_signal_leaves_is_not_begun(loop: Loop) -> None:
    def send(loop: Loop) -> None:
        if loop.steps_done == 4:
            signal.raise_signal(signal.SIGTERM)

    def train() -> None:
        with TrainingRun(
            loop.arguments(save_strategy="steps", save_steps=3, preemption_budget_s=1e-6),
            model=loop.model,
            callbacks=[loop.recorder],
            handle_signals=True,
        ) as loop.run:
            for _ in loop.run.steps(loop.loader):
                send(loop)
                loop.run.end_step()

    with pytest.raises(SystemExit, match="143"):
        train()
    assert (loop.steps_done, loop.saved_steps()) == (5, [3])
    refused = next(verdict for verdict in loop.verdicts() if verdict.action == "save")
    assert refused.outcome == "refused"
    assert "the signal leaves 0.0 s" in refused.detail
