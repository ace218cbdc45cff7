"""Trains in child processes that are killed at any moment; run by test_killed_run.py.

A child reports each step and each file operation of a save, and kills itself before one of its
reports. Arguments: a folder, the kind of data, and for each run a list of such reports, as JSON;
a run is resumed until it has been killed at each of them and ends. Prints, as one JSON list a run,
what each of its children made: losses, final weights; None where it was killed.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, WeightedRandomSampler

from stepbus import EventBus, TrainingArguments, TrainingRun, Vote, get_last_checkpoint

NUM_SAMPLES = 44
WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def sample(index: int) -> dict[str, torch.Tensor]:
    """Depends on all three global generators."""
    noise = random.random() + float(np.random.rand()) + torch.rand(1)
    x = torch.sin(torch.arange(6.0) * (index + 1))
    return {"x": x + 0.01 * noise, "y": x.sum().reshape(1)}


class Noisy(Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return sample(index)


class Stream(IterableDataset[dict[str, torch.Tensor]]):
    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        info = torch.utils.data.get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        return (sample(index) for index in range(first, NUM_SAMPLES, step))


class Batches:
    """No torch loader at all: it draws its order as it goes, from the global generator."""

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for _ in range(11):
            yield torch.utils.data.default_collate([sample(random.randrange(9)) for _ in range(4)])


def make_loader(kind: str) -> Any:
    if kind == "plain":
        return Batches()
    if kind.startswith("stream"):
        return DataLoader(Stream(), batch_size=4, num_workers=2 if kind == "stream 2" else 0)
    if kind == "weighted":
        sampler = WeightedRandomSampler([1.0 + n % 3 for n in range(NUM_SAMPLES)], NUM_SAMPLES)
        return DataLoader(Noisy(), batch_size=4, sampler=sampler)
    generator = torch.Generator().manual_seed(5) if kind == "own generator" else None
    workers = 2 if kind == "workers" else 0
    return DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=workers, generator=generator)


class Reports:
    """Counts how far this process is, and kills it before one of the reports."""

    def __init__(self, last: int) -> None:
        self._last = last
        self._pid = os.getpid()
        self.count = 0

    def report(self) -> None:
        if os.getpid() != self._pid:
            return
        self.count += 1
        if self.count == self._last:
            os.kill(self._pid, signal.SIGKILL)

    def watch_files(self, output_dir: str) -> None:
        def watch(event: str, details: tuple[Any, ...]) -> None:
            if event in WATCHED and "checkpoint-" in str(details[0]):
                self.report()

        sys.addaudithook(watch)


def train(output_dir: str, kind: str, last: int) -> dict[str, Any]:
    reports = Reports(last)
    reports.watch_files(output_dir)
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(7)
    loader = make_loader(kind)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step / 7))
    args = TrainingArguments(
        output_dir,
        max_steps=17,  # six steps an epoch, the last of one micro-batch
        gradient_accumulation_steps=2,
        logging_steps=2,
        save_steps=4,
        eval_strategy="epoch",
        save_total_limit=2,
        disable_tqdm=True,
        resume_from_checkpoint=get_last_checkpoint(output_dir) and True,  # type: ignore[arg-type]
    )
    bus = EventBus()

    @bus.subscribe("step_end", "epoch_end", delivery="gate")
    def save_at_ends_of_epochs_too(event: Any) -> Vote | None:
        at_end = event.name == "epoch_end" and event.step != 12
        return Vote("save") if at_end or (event.name, event.step) == ("step_end", 12) else None

    @bus.subscribe("step_end", delivery="gate")
    def leave_the_second_epoch_early(event: Any) -> list[Vote] | None:
        return [Vote("stop_epoch"), Vote("save")] if event.step == 9 else None

    def evaluate() -> dict[str, float]:
        return {"loss": torch.rand(1).item()}

    losses: dict[int, float] = {}
    total = 0.0
    with TrainingRun(
        args, model=model, optimizer=optimizer, lr_scheduler=scheduler, evaluate=evaluate, bus=bus
    ) as run:
        for batch in run.steps(loader):
            loss = nn.functional.mse_loss(model(batch["x"]), batch["y"]) / run.accumulation
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
            if run.accumulating:
                continue
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses[run.state.global_step + 1] = total
            run.end_step(loss=total)
            total = 0.0
            reports.report()
    content = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    return {
        "losses": losses,
        "logged": [(row["step"], row["loss"]) for row in run.state.log_history if "loss" in row],
        "train_loss": run.state.log_history[-1]["train_loss"],
        "weights": hashlib.sha256(content).hexdigest(),
        "run_id": run.run_id,
        "attempt": run.attempt,
        "num_reports": reports.count,
    }


def in_a_child(output_dir: str, kind: str, last: int) -> dict[str, Any] | None:
    """What a child makes of the run; None where it was killed."""
    receive, answer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        code = 1
        try:
            os.write(answer, json.dumps(train(output_dir, kind, last)).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(answer)
    with os.fdopen(receive, "rb") as pipe:
        answered = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    assert status == 0, f"the child ended with status {status}"
    return json.loads(answered)  # type: ignore[no-any-return]


def main() -> None:
    root, kind, runs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    torch.set_num_threads(1)
    # The first optimizer imports much: not in every child.
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    gc.freeze()
    for number, kills in enumerate(runs):
        made: list[dict[str, Any] | None] = []
        for last in (*kills, 0):
            made.append(in_a_child(f"{root}/{number}", kind, last))
            if made[-1] is not None:
                break
        print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
