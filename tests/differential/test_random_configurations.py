"""Arguments drawn at random: whatever they are together, both trainers make the same of them."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.differential import comparing
from tests.differential.case import Case, run
from tests.differential.comparing import report
from tests.differential.data import Rows, SizedStream, samples, sets, table
from tests.differential.libraries import REFERENCE, STEPBUS, Library
from tests.differential.models import DictRegression, LossKeywords, Regression
from tests.differential.voting import Callbacks, voter

EXAMPLES = 40
STEPS = st.one_of(st.integers(1, 7), st.sampled_from([0.2, 0.35, 0.5]))
MODELS = {"plain": Regression, "dict": DictRegression, "keywords": LossKeywords}
SETS = {
    "list": samples(22),
    "rows": lambda: Rows(17),
    "stream": lambda: SizedStream(19),
    "table": table(21),
}
EVALUATION_SETS = {"one": samples(10, seed=1), "two": sets(first=5, second=9)}
LENGTH = st.one_of(
    st.fixed_dictionaries({"max_steps": st.integers(1, 14)}),
    st.fixed_dictionaries({"num_train_epochs": st.sampled_from([0.5, 1, 1.5, 2, 2.25])}),
)
FIXED = st.fixed_dictionaries(
    {
        "gradient_accumulation_steps": st.sampled_from([1, 1, 2, 3, 4]),
        "per_device_train_batch_size": st.sampled_from([2, 4, 5]),
        "per_device_eval_batch_size": st.sampled_from([3, 4, 16]),
        "logging_strategy": st.sampled_from(["no", "steps", "steps", "epoch"]),
        "logging_steps": STEPS,
        "logging_first_step": st.booleans(),
        "max_grad_norm": st.sampled_from([1.0, 0.0, 0.3]),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "optim": st.sampled_from(["adamw_torch_fused", "adamw_torch", "sgd", "adagrad", "rmsprop"]),
        "lr_scheduler_type": st.sampled_from(["linear", "cosine", "constant", "inverse_sqrt"]),
        "warmup_steps": st.sampled_from([0, 2, 0.25]),
        "seed": st.integers(0, 5),
        "data_seed": st.sampled_from([None, 1]),
        "dataloader_drop_last": st.booleans(),
        "bf16": st.sampled_from([False, False, True]),
        "train_sampling_strategy": st.sampled_from(["random", "random", "sequential"]),
        "save_total_limit": st.sampled_from([None, 1, 2]),
    }
)
EVALUATING = st.fixed_dictionaries(
    {
        "eval_strategy": st.sampled_from(["no", "steps", "steps", "epoch"]),
        "eval_steps": STEPS,
        "eval_delay": st.sampled_from([0, 0, 1, 2.5]),
        "eval_on_start": st.booleans(),
    }
)
SAVING = st.sampled_from(["no", "steps", "epoch", "best", "with the evaluation"])
# No votes for evaluations, which leave the random numbers alone here.
HONOURED = st.sampled_from(
    [
        ("step_end", "should_save"),
        ("step_end", "should_log"),
        ("step_end", "should_epoch_stop"),
        ("step_end", "should_training_stop"),
        ("optimizer_step", "should_save"),
        ("epoch_end", "should_save"),
        ("epoch_end", "should_training_stop"),
    ]
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A case whose arguments fit together."""
    arguments: dict[str, Any] = draw(FIXED) | draw(LENGTH) | draw(EVALUATING)
    if arguments["eval_strategy"] == "no":
        arguments["eval_on_start"] = False
    saving, steps = draw(SAVING), draw(STEPS)
    if saving == "with the evaluation" and arguments["eval_strategy"] != "no":
        saving, steps = arguments["eval_strategy"], arguments["eval_steps"]
        arguments["load_best_model_at_end"] = True
    elif saving == "best" and arguments["eval_strategy"] != "no":
        arguments["load_best_model_at_end"] = draw(st.booleans())
    elif saving not in ("steps", "epoch"):
        saving = "no"
    arguments |= {"save_strategy": saving, "save_steps": steps}
    evaluation_set = draw(st.sampled_from(sorted(EVALUATION_SETS)))
    if saving == "best" or arguments.get("load_best_model_at_end"):
        first = "first_loss" if evaluation_set == "two" else "loss"
        arguments["metric_for_best_model"] = first
    callbacks: Callbacks = lambda library: []  # noqa: E731
    # Under "best" the reference overwrites a vote to save.
    if saving != "best" and draw(st.booleans()):
        callbacks = voter(*draw(HONOURED), draw(st.integers(1, 6)))
    return Case(
        "drawn",
        arguments,
        MODELS[draw(st.sampled_from(sorted(MODELS)))],
        SETS[draw(st.sampled_from(sorted(SETS)))],
        EVALUATION_SETS[evaluation_set],
        callbacks=callbacks,
    )


def outcome(case: Case, library: Library, folder: Path) -> Any:
    gc.freeze()
    environ = dict(os.environ)
    try:
        return run(case, library, folder / library.name)
    finally:
        os.environ.clear()
        os.environ.update(environ)


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(cases())
def test_drawn_configurations(case: Case) -> None:
    with TemporaryDirectory() as folder:
        reference = outcome(case, REFERENCE, Path(folder) / "1")
        stepbus = outcome(case, STEPBUS, Path(folder) / "2")
    assert not reference.error, reference.error
    found = comparing.differences(reference, stepbus)
    assert not found, report(str(case.arguments), found)
