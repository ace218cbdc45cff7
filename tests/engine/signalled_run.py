"""Trains and sends itself signals at given steps; run by test_stop_signals.py.

Arguments: the output folder, a plan as JSON: `signals` by step, `own` (a handler of the program's
own), `hang` (a subscriber that never returns), `budget`. Prints what happened.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

import torch
from torch import nn

from stepbus import Subscriber, TrainingArguments, TrainingRun

HANDLED = (signal.SIGINT, signal.SIGTERM)


class Hangs(Subscriber):
    """Sends the second signal once the first has been obeyed, and never returns."""

    def on_save(self, event: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait()


def main() -> None:
    output_dir, plan = sys.argv[1], json.loads(sys.argv[2])
    heard: list[str] = []
    if plan.get("own"):
        signal.signal(signal.SIGINT, lambda number, frame: heard.append("own"))
    former = [signal.getsignal(number) for number in HANDLED]
    model = nn.Linear(2, 1)
    args = TrainingArguments(
        output_dir,
        max_steps=6,
        save_strategy="no",
        disable_tqdm=True,
        drain_timeout_s=5,
        preemption_budget_s=plan.get("budget", 30),
    )
    run = TrainingRun(
        args,
        model=model,
        callbacks=[Hangs] if plan.get("hang") else [],
        handle_signals=True,
    )
    result: dict[str, Any] = {"ended": "plainly"}

    def train() -> None:
        with run:
            result["installed"] = [signal.getsignal(n) for n in HANDLED] != former
            for _ in run.steps([torch.zeros(1)] * 6):
                number = plan["signals"].get(str(run.state.global_step))
                if number:
                    os.kill(os.getpid(), number)
                run.end_step()

    try:
        train()
    except BaseException as error:
        result["ended"] = type(error).__name__
        raise
    finally:
        assert run.summary is not None
        result |= {
            "restored": [signal.getsignal(number) for number in HANDLED] == former,
            "step": run.summary.global_step,
            "status": run.summary.status,
            "reason": run.summary.reason,
            "saved": [path.rpartition("-")[2] for path in run.summary.checkpoints],
            "heard": heard,
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
