"""The text job: a small character-level GPT learns a text, step by step in sight of the bus."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, Subset

from ...bus import EventBus
from ...schemas.errors import CheckpointError
from ...schemas.text_job_arguments import TextJobArguments
from ..checkpoint import get_last_checkpoint, read_checkpoint
from ..environment import default_device, refuse_several_ranks
from ..rng import set_seed
from ..saving import ARGUMENTS
from ..schedules import make_scheduler
from ..stepping import plan
from ..summary import RunSummary
from ..training_run import TrainingRun
from .blocks import BlockDataset
from .corpus import Corpus, python_help_text, read_files
from .evaluation import evaluate_loss
from .model import CharGPT, CharGPTConfig
from .sample import generate

MODEL_ARGUMENTS = ("block_size", "num_layers", "num_heads", "width")


class TextJob:
    """Trains a `CharGPT` on text; made in full, and checked, before anything is written.

    Args:
        args: what to learn, with which model, how long.
        text: the text to learn, instead of `args.files`.
        callbacks: who listens besides the trackers of `args.report_to`.
        bus: where the events go; the run's own by default.
        handle_signals: take Ctrl-C and SIGTERM as *save and stop*.

    Raises:
        ArgumentError: numbers that make no model, an output folder that cannot be written, several
            ranks.
        DataError: the text is missing, unreadable or shorter than a block.
        CheckpointError: there is nothing to resume from, or it is of another model or text.
    """

    def __init__(
        self,
        args: TextJobArguments,
        *,
        text: str | None = None,
        callbacks: Iterable[Any] = (),
        bus: EventBus | None = None,
        handle_signals: bool = False,
    ) -> None:
        refuse_several_ranks()
        self.args = args
        if text is None:
            text = read_files(args.files) if args.files else python_help_text()
        self.corpus = Corpus.split(text, args.block_size)
        config = CharGPTConfig(
            vocab_size=len(self.corpus.vocabulary),
            block_size=args.block_size,
            num_layers=args.num_layers,
            num_heads=args.num_heads,
            width=args.width,
            dropout=args.dropout,
        )
        self._check_checkpoint()
        set_seed(args.seed)
        self.device = default_device(args.use_cpu)
        self.model = CharGPT(config).to(self.device)
        self._train_loader = self._loader(
            BlockDataset(self.corpus.train_ids, args.block_size), args.train_batch_size, train=True
        )
        self._eval_loader = self._loader(self._heldout(), args.eval_batch_size, train=False)
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=args.learning_rate,
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
            weight_decay=args.weight_decay,
            fused=True,
        )
        self.num_steps = plan(args, self._train_loader).max_steps
        self._scheduler = make_scheduler(
            self._optimizer,
            args.lr_scheduler_type,
            args.get_warmup_steps(self.num_steps),
            self.num_steps,
        )
        self.started = False
        """Whether a training step has begun."""
        self.run = TrainingRun(
            args,
            model=self.model,
            optimizer=self._optimizer,
            lr_scheduler=self._scheduler,
            evaluate=self.evaluate,
            callbacks=callbacks,
            bus=bus,
            handle_signals=handle_signals,
        )

    def train(self) -> RunSummary:
        """Trains to the end or until it is stopped; how it went.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once all is saved.
            SystemExit: 143 after SIGTERM, once all is saved.
        """
        args, model, optimizer = self.args, self.model, self._optimizer
        with self.run as run:
            run.attach("vocabulary", self.corpus.vocabulary)
            step_loss = torch.zeros((), device=self.device)
            for batch in run.steps(self._train_loader):
                self.started = True
                with self._precision():
                    loss = model(**batch).loss / run.accumulation
                loss.backward()
                step_loss += loss.detach()
                if run.accumulating:
                    continue
                norm = clip_grad_norm_(model.parameters(), args.max_grad_norm or float("inf"))
                if args.nan_policy != "strict" or run.is_finite(step_loss, grad_norm=norm):
                    optimizer.step()
                    self._scheduler.step()
                optimizer.zero_grad()
                run.end_step(loss=step_loss, grad_norm=norm)
                step_loss = torch.zeros_like(step_loss)
        assert run.summary is not None
        return run.summary

    def evaluate(self) -> dict[str, float]:
        """The loss on the held-out text, in nats per character."""
        with self._precision():
            return evaluate_loss(self.model, self.run.evaluation_steps(self._eval_loader))

    def sample(self) -> str:
        """What the model writes now: always from the same seed, moving no other random number."""
        args = self.args
        written = generate(
            self.model,
            self.corpus.vocabulary,
            args.sample_prompt,
            args.sample_length,
            temperature=args.sample_temperature,
            seed=args.seed,
        )
        return written.strip("\n")

    def _heldout(self) -> Subset[dict[str, torch.Tensor]]:
        blocks = BlockDataset(self.corpus.heldout_ids, self.args.block_size)
        num = min(len(blocks), self.args.num_eval_blocks)
        return Subset(blocks, [index * len(blocks) // num for index in range(num)])

    def _loader(self, blocks: Any, batch_size: int, *, train: bool) -> DataLoader[Any]:
        return DataLoader(
            blocks,
            batch_size=batch_size,
            shuffle=train,
            drop_last=train and self.args.dataloader_drop_last,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.device.type == "cuda",
        )

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if not self.args.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _check_checkpoint(self) -> None:
        """Refuses a checkpoint that this text or this model cannot go on from."""
        wanted: str | bool | None = self.args.resume_from_checkpoint
        folder = get_last_checkpoint(self.args.output_dir) if wanted is True else wanted
        if not folder:
            return  # the run says that there is none
        checkpoint = read_checkpoint(str(folder))
        states = checkpoint.states.get("attached", {})
        if "vocabulary" not in states or ARGUMENTS not in checkpoint.documents:
            raise CheckpointError(f"{folder} is no checkpoint of a text job: start a new run.")
        saved = json.loads(checkpoint.document(ARGUMENTS))
        differing = [
            f"{name} {saved[name]} there, {getattr(self.args, name)} here"
            for name in MODEL_ARGUMENTS
            if name in saved and saved[name] != getattr(self.args, name)
        ]
        if differing:
            raise CheckpointError(
                f"{folder} is a checkpoint of another model: {'; '.join(differing)}. Leave these "
                "arguments as they were, or start a new run."
            )
        try:
            self.corpus.vocabulary.load_state_dict(states["vocabulary"])
        except CheckpointError as error:
            raise CheckpointError(f"{folder} does not fit the text. {error}") from None


def saved_arguments(output_dir: str, checkpoint: str | bool = True) -> dict[str, Any]:
    """The arguments that the checkpoint to resume from was written with, as plain values.

    Raises:
        CheckpointError: there is no whole checkpoint, or it has none.
    """
    folder = checkpoint if isinstance(checkpoint, str) else get_last_checkpoint(output_dir)
    if folder is None:
        raise CheckpointError(
            f"There is nothing to resume in {output_dir!r}: it holds no whole checkpoint. Start "
            "without --resume, or name the folder of the run."
        )
    try:
        values = json.loads((Path(folder) / ARGUMENTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} cannot be resumed ({error}).") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder}/{ARGUMENTS} holds no arguments by name.")
    return values
