"""Writes checkpoints in child processes that are killed at every moment; run by test_killed.py.

A child writes checkpoints in a loop and sends one byte down a pipe for each file operation, and
its step's number when a checkpoint is done. Prints one JSON line per child: the steps that were
announced, and what is found in the output folder afterwards.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import torch

from stepbus.engine.checkpoint import (
    get_last_checkpoint,
    list_checkpoints,
    read_checkpoint,
    rotate,
    save_model_files,
    verify,
    write_checkpoint,
)

WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.listdir"}
OPERATION = b"."
DONE = b"!"
MODEL_WRITES_ITSELF = "itself" in sys.argv


def write_forever(output_dir: Path, operations: int, report: int) -> None:
    """Ends itself before file operation number `operations`, unless the parent is faster."""
    left = operations

    def watch(event: str, _: object) -> None:
        nonlocal left
        if event not in WATCHED:
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(report, OPERATION)

    sys.addaudithook(watch)
    for step in (1, 2, 2, 3, 3, 4, 5, 5):
        write(output_dir, step)
        os.write(report, DONE + bytes([step]))
        rotate(output_dir, 2)


def write(output_dir: Path, step: int) -> None:
    model = torch.nn.Linear(4, 4)
    torch.nn.init.constant_(model.weight, step)
    states = {"step": step, "exp_avg": {0: torch.full((50, 50), float(step))}}
    if not MODEL_WRITES_ITSELF:
        write_checkpoint(output_dir, step, states=states, model=model)
        return

    def write_model(folder: Path) -> None:
        save_model_files(model, folder)
        (folder / "words" / "merged").mkdir(parents=True)
        (folder / "words" / "merged" / "vocabulary.bin").write_bytes(bytes(range(256)))

    write_checkpoint(output_dir, step, states=states, write_model=write_model)


def run_and_kill(output_dir: Path, operations: int, kill_after: int) -> dict[str, object]:
    """One child; it is killed from here after `kill_after` bytes or by itself, or it finishes."""
    receive, report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        try:
            write_forever(output_dir, operations, report)
        finally:
            os._exit(0)
    os.close(report)
    heard = b""
    while len(heard) < kill_after and (part := os.read(receive, 1)):
        heard += part
    if len(heard) == kill_after:
        os.kill(child, signal.SIGKILL)
    while part := os.read(receive, 4096):
        heard += part
    os.close(receive)
    _, status = os.waitpid(child, 0)
    announced = [part[0] for part in heard.split(DONE)[1:]]
    return {"killed": os.WIFSIGNALED(status), "announced": announced} | look(output_dir)


def look(output_dir: Path) -> dict[str, object]:
    last = get_last_checkpoint(output_dir)
    named = sorted(output_dir.glob("checkpoint-*"))
    for folder in named:
        verify(folder)
    right = True
    if last is not None:
        checkpoint = read_checkpoint(last)
        model = torch.nn.Linear(4, 4)
        checkpoint.load_weights(model)
        values = {checkpoint.step, checkpoint.states["step"]}
        values |= {float(model.weight.detach().min()), float(checkpoint.states["exp_avg"][0].max())}
        right = len(values) == 1
    whole = list_checkpoints(output_dir)
    found = {"last": last and int(last.rpartition("-")[2]), "right": right}
    write(output_dir, 9)
    rotate(output_dir, 1)
    left = sorted(path.name for path in output_dir.iterdir())
    return found | {"all whole": whole == named, "after the next": left}


def main() -> None:
    root, seed, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    output_dir = root / "out"
    draw = random.Random(seed)
    never = 10**9
    for number in range(rounds):
        shutil.rmtree(output_dir, ignore_errors=True)
        output_dir.mkdir()
        itself = number % 2 == 0
        operations = 1 + number * 3 if itself else never
        kill_after = never if itself else draw.randrange(1, rounds * 3)
        print(json.dumps(run_and_kill(output_dir, operations, kill_after)), flush=True)


if __name__ == "__main__":
    main()
