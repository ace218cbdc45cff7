from __future__ import annotations

import torch
from torch.utils.data import DataLoader

from stepbus.engine.text import (
    BlockDataset,
    CharGPT,
    CharGPTConfig,
    Corpus,
    TextJobDefaults,
    evaluate_loss,
    generate,
    python_help_text,
)


def test_a_few_steps_at_the_defaults_learn_from_the_help_text() -> None:
    defaults = TextJobDefaults()
    torch.manual_seed(defaults.seed)
    corpus = Corpus.split(python_help_text(), defaults.block_size)
    model = CharGPT(CharGPTConfig(len(corpus.vocabulary), defaults.block_size))
    optimizer = torch.optim.AdamW(model.parameters(), defaults.learning_rate, fused=True)
    heldout = BlockDataset(corpus.heldout_ids, defaults.block_size)
    heldout_batches = [next(iter(DataLoader(heldout, defaults.eval_batch_size)))]
    loader = DataLoader(
        BlockDataset(corpus.train_ids, defaults.block_size), defaults.batch_size, shuffle=True
    )
    before = evaluate_loss(model, heldout_batches)["loss"]
    for _, batch in zip(range(12), loader, strict=False):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert before > 4.3
    assert evaluate_loss(model, heldout_batches)["loss"] < 3.4
    assert len(generate(model, corpus.vocabulary, "The ", 20)) == 24


def test_the_job_fits_its_intervals() -> None:
    defaults = TextJobDefaults()
    assert defaults.num_steps % defaults.eval_steps == 0
    assert defaults.num_steps % defaults.save_steps == 0
    assert defaults.num_warmup_steps < defaults.num_steps
