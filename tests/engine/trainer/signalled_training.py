"""A script that trains and waits for a signal; run by test_trainer_signals.py.

Arguments: the output folder; what it is to do: `step` waits in a step, `hang` has a subscriber that
never returns from the checkpoint besides, `sidecar` has one in another process, which goes on once
there is a file `go`, and one like it here; `loading` waits for a batch of data.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import torch

from stepbus import Subscriber, Trainer, TrainerCallback, TrainingArguments
from tests.bus.sidecar.companion import Companion
from tests.bus.sidecar.handlers import Writer
from tests.engine.trainer.conftest import BATCH, Regression, samples

WAITS_AT = 3
NUM_STEPS = 9


class Hangs(Subscriber):
    """Never returns from the first checkpoint."""

    def on_save(self, event: Any) -> None:
        print("HANGING", flush=True)
        threading.Event().wait()


class Data:
    """Samples; one of them comes only once something is in the pipe, where it was given one."""

    def __init__(self) -> None:
        self.samples = samples()
        self.pipe: int | None = None
        self.num_given = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        self.num_given += 1
        worker = torch.utils.data.get_worker_info()
        if self.pipe is not None and self.num_given > 2 * BATCH and worker and worker.id == 0:
            os.read(self.pipe, 1)
            self.pipe = None
        return self.samples[index]


class Waits(Trainer):
    """Waits in one step until a signal has come, where it was given a pipe to hear of it."""

    pipe: int | None = None

    def compute_loss(self, model: Any, inputs: Any, *given: Any, **keywords: Any) -> Any:
        if self.pipe is not None and self.state.global_step == WAITS_AT - 1:
            print("WAITING", flush=True)
            while os.read(self.pipe, 1)[0] == signal.SIGCHLD:
                pass  # the workers of the epoch before
            self.pipe = None
        return super().compute_loss(model, inputs, *given, **keywords)


class Tells(TrainerCallback):
    """Tells that the training is about to wait for data."""

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.global_step == 1:
            print("WAITING", flush=True)


def build(output_dir: str, *callbacks: Any) -> Waits:
    """A trainer with dropout, accumulation and workers."""
    args = TrainingArguments(
        output_dir,
        use_cpu=True,
        max_steps=NUM_STEPS,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=2,
        dataloader_num_workers=2,
        learning_rate=1e-2,
        save_strategy="no",
        logging_steps=2,
        disable_tqdm=True,
        drain_timeout_s=30,
    )
    return Waits(Regression(), args, train_dataset=Data(), callbacks=list(callbacks))


def main() -> None:
    output_dir, what = sys.argv[1:]
    torch.set_num_threads(1)
    trainer = build(output_dir, *([Hangs] if what == "hang" else []))
    if what == "sidecar":
        trainer.bus.subscribe(Writer("here"), required=True)
        trainer.bus.subscribe(Companion("there", "go"), delivery="process", required=True)
    pipe, writes = os.pipe()
    if what == "loading":
        trainer.train_dataset.pipe = pipe
        trainer.add_callback(Tells)
        signal.signal(signal.SIGTERM, lambda number, frame: os.write(writes, b"."))
    else:
        trainer.pipe = pipe
        os.set_blocking(writes, False)
        signal.set_wakeup_fd(writes)
    trainer.train()
    print("AFTER TRAIN", flush=True)


if __name__ == "__main__":
    main()
