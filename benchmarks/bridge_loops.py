"""Trainers of others with stepbus behind them, each doing the same work as without it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.utils.data import default_collate

from stepbus import EventBus, LightningBridge, TransformersBridge
from stepbus.bus.registry import Registry
from stepbus.engine.bench.equal_work import Rows, Work, make_loader, make_model
from stepbus.engine.bench.loops import StepWatch, run_arguments

from .engine_loops import DRAIN_S, trainer_arguments, workplace


def transformers_bridged(
    work: Work, watch: StepWatch, *, trackers: Sequence[str] = (), logging_steps: int = 0
) -> nn.Module:
    """Hugging Face's `Trainer`, with the trackers on a bus behind its bridge."""
    import transformers

    model = make_model(work)
    with workplace() as folder:
        arguments = run_arguments(work, str(folder), logging_steps) | trainer_arguments(work)
        bus = bus_with(trackers)
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(**arguments),
            train_dataset=Rows(work, watch),
            data_collator=default_collate,
            callbacks=[TransformersBridge(bus)],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        try:
            trainer.train()
        finally:
            note_ledger(bus, watch)
    return model


def lightning_bridged(
    work: Work, watch: StepWatch, *, trackers: Sequence[str] = (), logging_steps: int = 0
) -> nn.Module:
    """Lightning's `Trainer`, with the trackers on a bus behind its bridge."""
    from .lightning_module import make_trainer, wrap

    model, bus = make_model(work), bus_with(trackers)
    bridge = LightningBridge(bus)
    with workplace() as folder:
        module = wrap(work, model, logs=bool(logging_steps))
        trainer = make_trainer(
            work, folder, (), logging_steps, callbacks=[bridge], loggers=[bridge.logger]
        )
        try:
            trainer.fit(module, make_loader(work, watch))
        finally:
            note_ledger(bus, watch)
    return model


def bus_with(trackers: Sequence[str]) -> EventBus:
    """A bus on which these trackers listen, each in another process."""
    bus, registry = EventBus(drain_timeout=DRAIN_S), Registry()
    for name in trackers:
        bus.subscribe(registry.load(name)(), delivery="process")
    return bus


def note_ledger(bus: EventBus, watch: StepWatch) -> None:
    """Tells whoever measures what each subscriber has handled."""
    watch.facts["ledger"] = [row.model_dump() for row in bus.ledger]
