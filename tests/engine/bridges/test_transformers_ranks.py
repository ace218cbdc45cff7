"""Two processes that train together under torchrun's variables, with the bus behind each."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DEADLINE_S = 150

PROGRAM = """
import json, os, sys
from pathlib import Path

from stepbus import EventBus, TransformersBridge, Vote
from tests.engine.bridges.their_trainer import make_trainer

folder, how = Path(sys.argv[1]), sys.argv[2]
rank = int(os.environ["RANK"])
bus, seen, zero = EventBus(), [], []


@bus.subscribe("*", ranks="all")
def everywhere(event):
    seen.append([event.name, event.step, event.rank, event.run_id, event.seq])


@bus.subscribe("verdict")
def verdicts(event):
    zero.append([event.action, event.outcome, event.detail])


@bus.subscribe("step_end", delivery="gate")
def enough(event):
    return Vote("stop", reason="enough")


if how == "script" and rank == 0:
    bus.vote("save", reason="to be safe")
    bus.vote("evaluate", reason="curious")

bridges = [TransformersBridge(bus)] if how != "one" or rank == 0 else []
trainer = make_trainer(folder, *bridges, ddp_backend="gloo", eval_strategy="epoch")
trainer.train()
found = {"seen": seen, "zero": zero, "steps": trainer.state.global_step}
(folder / f"{rank}.json").write_text(json.dumps(found))
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def train_together(folder: Path, how: str) -> list[dict[str, Any]]:
    """Two ranks over loopback; what each of them saw. Both must end well, and on time."""
    environ = os.environ | {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
    }
    started = []
    for rank in ("0", "1"):
        with (folder / f"{rank}.out").open("w") as out:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, str(folder), how],
                    env=environ | {"RANK": rank, "LOCAL_RANK": rank},
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                )
            )
    try:
        codes = [process.wait(DEADLINE_S) for process in started]
    except subprocess.TimeoutExpired:
        codes = [-1]
    finally:
        for process in started:
            process.kill()
            process.wait()
    said = "\n".join((folder / f"{rank}.out").read_text() for rank in (0, 1))
    assert codes == [0, 0], said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_a_stop_that_rank_0_alone_votes_for_is_refused_and_both_end_as_they_should(
    tmp_path: Path,
) -> None:
    zero, one = train_together(tmp_path, "script")
    assert zero["steps"] == one["steps"] == 4
    outcomes = {(action, outcome) for action, outcome, _ in zero["zero"]}
    assert outcomes == {(action, "refused") for action in ("stop", "save", "evaluate")}
    assert all(detail.startswith("several ranks") for _, _, detail in zero["zero"])
    assert one["zero"] == []
    # Events come from every rank, with its number, and all of them belong to one run.
    assert {event[2] for event in zero["seen"]} == {0}
    assert {event[2] for event in one["seen"]} == {1}
    assert len({event[3] for event in [*zero["seen"], *one["seen"]]}) == 1
    both = [[event[:2] for event in each["seen"] if event[0] != "verdict"] for each in (zero, one)]
    assert both[0] == both[1]
    assert [event[4] for event in one["seen"]] == list(range(len(one["seen"])))
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize("how", ["one"])
def test_a_bridge_on_one_rank_alone_holds_nobody_up(tmp_path: Path, how: str) -> None:
    zero, one = train_together(tmp_path, how)
    assert zero["steps"] == one["steps"] == 4
    assert one["seen"] == []
    assert {outcome for _, outcome, _ in zero["zero"]} == {"refused"}
