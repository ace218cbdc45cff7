"""The parts of an open run, wired to one another."""

from __future__ import annotations

from pathlib import Path

import torch

from ..bus import RunLink
from ..schemas import TrainingArguments
from .acting import Acting
from .artifacts import Artifacts
from .evaluating import Evaluating
from .front_end import FrontEnd
from .histograms import Histograms
from .hosting import Hosted
from .non_finite import NonFiniteWatch
from .parts import RunParts
from .rng import preserved_rng
from .rounds import Rounds
from .saving import Saving
from .signals import StopSignals
from .stepping import Stepping


class Working:
    """Who counts the votes of a run, who acts on them, and who keeps its steps."""

    def __init__(
        self,
        args: TrainingArguments,
        link: RunLink,
        saving: Saving,
        parts: RunParts,
        front_end: FrontEnd,
        optimizer: torch.optim.Optimizer | None,
        signals: StopSignals | None,
        hosted: Hosted | None = None,
    ) -> None:
        # One for all handlers: it remembers what is dear to read.
        keeper = preserved_rng()
        link.gate.guard = lambda: keeper
        self.rounds = Rounds(link, signals)
        metrics = parts.window.metrics
        self.watch = NonFiniteWatch(args, link, metrics)
        self.histograms = Histograms(link, metrics)
        self.evaluating = Evaluating(args, link, saving.model, front_end, self.rounds, metrics)
        self.acting = Acting(
            args,
            link,
            saving,
            self.rounds,
            self.evaluating,
            parts.window,
            optimizer,
            signals,
            front_end,
            hosted,
        )
        self.rounds.actions = self.acting.actions()
        parts.leaves_epoch = self.rounds.leaves_epoch
        note = None if front_end.gives_learning_rate else self.acting.note_learning_rate
        self.stepping = Stepping(args, link, self.rounds, parts.position, note, front_end)
        self.artifacts = Artifacts(
            link, metrics, Path(args.output_dir), lambda: self.stepping.in_step
        )
        front_end.working = self
