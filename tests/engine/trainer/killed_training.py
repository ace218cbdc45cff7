"""Trains in child processes that are killed at any moment; run by test_trainer_killed.py.

A child counts its steps and each file operation on a checkpoint, and kills itself at one of these
counts. Arguments: a folder; the model, `gpt2` or `regression`; for each run where it is to be
killed, as a share of an unbroken run's counts, as JSON. A run that was killed goes on from its last
checkpoint. Prints for each run what its last child made, as one JSON object a line, and first what
a run that is never killed makes.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stepbus import Trainer, TrainerCallback, TrainingArguments
from stepbus.engine.checkpoint import list_checkpoints, read_checkpoint
from tests.engine.trainer.conftest import Regression, samples

WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


class Counts(TrainerCallback):
    """Counts how far this process is, and kills it at one of the counts."""

    def __init__(self, output_dir: str, last: int) -> None:
        self._last = last
        self._within = output_dir
        self.count = 0
        sys.addaudithook(self._watch)

    def _watch(self, event: str, details: tuple[Any, ...]) -> None:
        if event in WATCHED and f"{self._within}/" in str(details[0]):
            self.add()

    def add(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_pre_optimizer_step(self, *given: Any, **keywords: Any) -> None:
        self.add()

    def on_step_end(self, *given: Any, **keywords: Any) -> None:
        self.add()


def make_regression() -> tuple[nn.Module, list[Any]]:
    return Regression(), samples()


def make_gpt2() -> tuple[nn.Module, list[Any]]:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(2)
    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=16, vocab_size=50)
    config.bos_token_id = config.eos_token_id = 0
    texts = torch.randint(1, 50, (24, 8))
    return GPT2LMHeadModel(config), [{"input_ids": text, "labels": text} for text in texts]


def load_gpt2(folder: Path) -> None:
    from transformers import GPT2LMHeadModel

    loaded: Any = GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
    model, loading = loaded
    assert not loading["missing_keys"], loading
    assert not loading["unexpected_keys"], loading
    assert all(parameter.isfinite().all() for parameter in model.parameters())


MODELS = {"regression": make_regression, "gpt2": make_gpt2}
LOADS: dict[str, Callable[[Path], None]] = {"gpt2": load_gpt2}


def train(output_dir: str, kind: str, last: int) -> dict[str, Any]:
    whole = list_checkpoints(output_dir)
    for folder in whole:
        assert read_checkpoint(folder).step == int(folder.name.rpartition("-")[2])
        if kind in LOADS:
            LOADS[kind](folder)
    model, data = MODELS[kind]()
    counts = Counts(output_dir, last)
    args = TrainingArguments(
        output_dir,
        use_cpu=True,
        num_train_epochs=3,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=2,
        load_best_model_at_end=True,
        logging_steps=3,
        disable_tqdm=True,
    )
    trainer = Trainer(model, args, train_dataset=data, eval_dataset=data[:8], callbacks=[counts])
    trainer.train(resume_from_checkpoint=bool(whole))
    content = b"".join(bytes(p.detach().numpy().tobytes()) for p in trainer.model.parameters())
    return {
        "weights": hashlib.sha256(content).hexdigest(),
        "history": [untimed(row) for row in trainer.state.log_history],
        "best": trainer.state.best_global_step,
        "count": counts.count,
        "resumed_from": whole[-1].name if whole else None,
        "whole": [folder.name for folder in list_checkpoints(output_dir)],
    }


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if not k.endswith(("runtime", "per_second"))}


def in_a_child(output_dir: str, kind: str, last: int) -> dict[str, Any] | None:
    """What a child makes of the run; None where it was killed."""
    receive, answer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(2, 1)  # what it prints is no answer
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
    root, kind, shares = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    torch.set_num_threads(1)
    MODELS[kind]()
    # The first optimizer imports much: not in every child.
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    gc.freeze()
    unbroken = in_a_child(f"{root}/unbroken", kind, 0)
    assert unbroken is not None
    print(json.dumps(unbroken), flush=True)
    for number, share in enumerate(shares):
        output_dir = f"{root}/{number}"
        assert in_a_child(output_dir, kind, 1 + int(share * unbroken["count"])) is None
        print(json.dumps(in_a_child(output_dir, kind, 0)), flush=True)


if __name__ == "__main__":
    main()
