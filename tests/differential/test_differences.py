"""The differences on purpose: what the reference does, and what stepbus does instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.differential import differences as table
from tests.differential.case import Case, Outcome, Session
from tests.differential.conftest import Run
from tests.differential.data import Once, Stream, samples, text_table
from tests.differential.libraries import REFERENCE, STEPBUS, Library
from tests.differential.models import Infinite, Regression, gpt2
from tests.differential.recording import make_recorder
from tests.differential.test_best_model import scored, stopping
from tests.differential.voting import voter

Both = Callable[[Case], tuple[Outcome, Outcome]]

SCHEDULE: dict[str, Any] = {
    "num_train_epochs": 3,
    "gradient_accumulation_steps": 2,
    "logging_steps": 4,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_strategy": "steps",
    "save_steps": 4,
}
"""Three steps of two micro-batches an epoch; log, evaluation and checkpoint at 4 and 8."""
LOG, EVALUATE, SAVE = "should_log", "should_evaluate", "should_save"
STOP_EPOCH, STOP = "should_epoch_stop", "should_training_stop"
DONE_AT = {LOG: [4, 8], EVALUATE: [4, 8, 9], SAVE: [4, 8, 9]}


@pytest.fixture
def both(outcome_of: Run) -> Both:
    """Runs a case with the reference and with stepbus."""

    def run(case: Case) -> tuple[Outcome, Outcome]:
        return outcome_of(case, REFERENCE), outcome_of(case, STEPBUS)

    return run


def test_each_difference_has_a_test() -> None:
    names = {name for name in vars(table) if isinstance(getattr(table, name), table.Difference)}
    tested = {test.covers for test in globals().values() if hasattr(test, "covers")}
    assert tested == {getattr(table, name).name for name in names}


def covers(difference: table.Difference) -> Callable[[Any], Any]:
    """Says which difference a test shows; all of them are slow."""

    def mark(test: Any) -> Any:
        test = pytest.mark.slow(test)
        test.covers = difference.name
        return test

    return mark


def done(outcome: Outcome, flag: str) -> list[int]:
    """The steps at which something was done."""
    if flag == LOG:
        return [row["step"] for row in outcome.history if "loss" in row]
    return outcome.steps({EVALUATE: "evaluate", SAVE: "save"}[flag])


LOST = [
    *(("init_end", flag, 1) for flag in DONE_AT),
    *(("train_begin", flag, 1) for flag in DONE_AT),
    *(("epoch_begin", flag, 1) for flag in DONE_AT),
    ("log", LOG, 5),
    ("prediction_step", LOG, 5),
    ("prediction_step", EVALUATE, 5),
    ("evaluate", LOG, 5),
    ("evaluate", EVALUATE, 5),
    *(("save", flag, 5) for flag in DONE_AT),
]


@covers(table.LOST_VOTES)
@pytest.mark.parametrize(("hook", "flag", "step"), LOST)
def test_a_vote_that_the_reference_loses(both: Both, hook: str, flag: str, step: int) -> None:
    reference, stepbus = both(Case("lost", SCHEDULE, callbacks=voter(hook, flag)))
    assert not reference.error + stepbus.error
    assert done(reference, flag) == DONE_AT[flag]
    assert done(stepbus, flag) == sorted([*DONE_AT[flag], step])
    assert reference.state["step"] == stepbus.state["step"] == 9


@covers(table.LOST_VOTES)
@pytest.mark.parametrize("hook", ["init_end", "train_begin"])
def test_an_epoch_stop_that_the_reference_loses(both: Both, hook: str) -> None:
    reference, stepbus = both(Case("lost", SCHEDULE, callbacks=voter(hook, STOP_EPOCH)))
    assert reference.steps("epoch_end") == [3, 6, 9]
    assert stepbus.steps("epoch_end") == [1, 4, 7]


@covers(table.LOST_VOTES)
def test_a_stop_that_the_reference_loses(both: Both) -> None:
    reference, stepbus = both(Case("lost", SCHEDULE, callbacks=voter("init_end", STOP)))
    assert (reference.state["step"], stepbus.state["step"]) == (9, 1)


@covers(table.HALF_STEPS)
@pytest.mark.parametrize(
    ("hook", "call", "steps"),
    [
        ("train_begin", 1, (0, 1)),
        ("epoch_begin", 1, (0, 1)),
        ("step_begin", 2, (1, 2)),
        ("substep_end", 2, (1, 2)),
    ],
)
def test_a_stop_in_half_a_step(both: Both, hook: str, call: int, steps: tuple[int, int]) -> None:
    reference, stepbus = both(Case("stop", SCHEDULE, callbacks=voter(hook, STOP, call)))
    assert (reference.state["step"], stepbus.state["step"]) == steps
    assert [len(o.of("substep_end")) for o in (reference, stepbus)] == [steps[0] + 1, steps[1]]


@covers(table.HALF_STEPS)
@pytest.mark.parametrize(
    ("hook", "call", "steps"),
    [("epoch_begin", 2, (3, 4)), ("step_begin", 2, (1, 2)), ("substep_end", 2, (1, 2))],
)
def test_an_epoch_stop_in_half_a_step(
    both: Both, hook: str, call: int, steps: tuple[int, int]
) -> None:
    reference, stepbus = both(Case("stop", SCHEDULE, callbacks=voter(hook, STOP_EPOCH, call)))
    for outcome, step in zip((reference, stepbus), steps, strict=True):
        assert step in outcome.steps("epoch_end")
    assert any(begin.gradients for begin in reference.of("step_begin"))
    assert not any(begin.gradients for begin in stepbus.of("step_begin"))


@covers(table.ABANDONED_EVALUATION)
def test_a_stop_during_an_evaluation(both: Both) -> None:
    reference, stepbus = both(Case("stop", SCHEDULE, callbacks=voter("prediction_step", STOP)))
    assert reference.state["step"] == stepbus.state["step"] == 4
    assert (reference.steps("evaluate"), stepbus.steps("evaluate")) == ([4], [])
    assert len(reference.of("prediction_step")) == 3
    assert len(stepbus.of("prediction_step")) == 1
    assert reference.folders == stepbus.folders == ["checkpoint-4"]


@covers(table.NEUTRAL_EVALUATIONS)
def test_an_evaluation_that_is_voted_for(both: Both) -> None:
    arguments = {"num_train_epochs": 2}
    plain = both(Case("none", arguments))
    voted = both(Case("voted", arguments, callbacks=voter("step_end", EVALUATE, 3)))
    assert [outcome.steps("evaluate") for outcome in voted] == [[3], [3]]
    same = [
        all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())
        for one, other in zip(plain, voted, strict=True)
    ]
    assert same == [False, True]


@covers(table.LOST_VOTES)
@pytest.mark.parametrize("flag", [LOG, EVALUATE])
def test_a_vote_in_the_save_of_an_epochs_last_step(both: Both, flag: str) -> None:
    arguments = {"logging_strategy": "no", "save_strategy": "steps", "save_steps": 6}
    outcomes = both(Case("at 6", arguments, callbacks=voter("save", flag)))
    answer = {LOG: "log", EVALUATE: "evaluate"}[flag]
    for outcome, order in zip(
        outcomes, (["save", "epoch_end", answer], ["save", answer, "epoch_end"]), strict=True
    ):
        at_six = [c.hook for c in outcome.calls if c.step == 6 and c.hook in order]
        assert at_six == order


@covers(table.LOG_AGAIN)
def test_a_log_at_a_step_that_was_logged(both: Both) -> None:
    case = Case("again", {"num_train_epochs": 1}, callbacks=voter("epoch_end", LOG))
    reference, stepbus = both(case)
    assert [row["step"] for row in reference.history] == [1, 2, 3, 4, 5, 6, 6]
    assert [row["step"] for row in stepbus.history] == [1, 2, 3, 4, 5, 6, 6, 6]
    assert set(stepbus.history[6]) == {"epoch", "grad_norm", "learning_rate", "step"}


@covers(table.END_OF_AN_EPOCH)
@pytest.mark.parametrize("step", [6, 12])
def test_a_resume_at_the_end_of_an_epoch(both: Both, step: int) -> None:
    def script(session: Session) -> None:
        session.make().train()
        session.calls.clear()
        checkpoint = str(session.folder / f"checkpoint-{step}")
        session.make().train(resume_from_checkpoint=checkpoint)

    arguments = {"save_strategy": "steps", "save_steps": 6, "eval_strategy": "epoch"}
    reference, stepbus = both(Case("resume", arguments, script=script))
    assert reference.steps("epoch_end") == ([12] if step == 6 else [])
    assert stepbus.steps("epoch_end") == ([6, 12] if step == 6 else [12])
    assert [row["step"] for row in stepbus.history if "eval_loss" in row] == [6, 12]
    assert 6 not in [row["step"] for row in reference.history if "eval_loss" in row] or step == 12


@covers(table.LENGTH_COLUMN)
def test_the_column_of_the_lengths(both: Both) -> None:
    def script(session: Session) -> None:
        for batch in session.make().get_train_dataloader():
            lengths = batch["attention_mask"].sum(1)
            session.results.setdefault("spreads", []).append(int(lengths.max() - lengths.min()))

    arguments = {"train_sampling_strategy": "group_by_length"}
    case = Case("lengths", arguments, gpt2, lambda: text_table(200, "length"), script=script)
    mixed, grouped = (sum(outcome.results["spreads"]) for outcome in both(case))
    assert mixed > 3 * grouped


@covers(table.PREPARATION_TIME)
def test_preparation_time(both: Both) -> None:
    def script(session: Session) -> None:
        session.results["evaluate"] = session.make().evaluate()

    found = [outcome.results["evaluate"].keys() for outcome in both(Case("time", script=script))]
    assert found[0] - found[1] == {"eval_model_preparation_time"}
    assert not found[1] - found[0]


@covers(table.OWN_EVALUATION_LOADER)
def test_losses_of_a_loader_of_ones_own(both: Both) -> None:
    def own_loader(base: Any) -> Any:
        class Trainer(base):  # type: ignore[misc]
            def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
                return torch.utils.data.DataLoader(self.eval_dataset, batch_size=4)

        return Trainer

    def script(session: Session) -> None:
        session.results["own"] = session.make().evaluate()["eval_loss"]

    rows = samples(5)()
    case = Case("own", eval=lambda: rows, subclass=own_loader, script=script)
    reference, stepbus = both(case)
    parts = [
        torch.nn.functional.mse_loss(
            _predicted(stepbus, part), torch.stack([r["labels"] for r in part])
        )
        for part in (rows[:4], rows[4:])
    ]
    assert reference.results["own"] == pytest.approx(float(parts[0] + parts[1]) / 2)
    assert stepbus.results["own"] == pytest.approx(float(4 * parts[0] + parts[1]) / 5)


def _predicted(outcome: Outcome, rows: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """What the model of an outcome makes of some rows."""
    model = Regression().eval()
    model.load_state_dict(outcome.weights)
    return model.predict(torch.stack([row["x"] for row in rows])).detach()


@covers(table.SAVE_UNDER_BEST)
@pytest.mark.parametrize("hook", ["step_end", "log", "evaluate"])
def test_a_vote_to_save_under_best(both: Both, hook: str) -> None:
    case = scored(
        "best",
        (5.0, 2.0, 3.0, 2.5, 4.0, 3.5),
        # Logs alternate with those of the evaluations; the third evaluation is not the best.
        voter(hook, SAVE, {"step_end": 6, "log": 5, "evaluate": 3}[hook]),
        save_strategy="best",
        load_best_model_at_end=False,
        logging_steps=2,
    )
    reference, stepbus = both(case)
    assert reference.steps("save") == [2, 4]
    assert stepbus.steps("save") == [2, 4, 6]


@covers(table.NAN_LOSSES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number(both: Both, value: float) -> None:
    reference, stepbus = both(Case("nan", {"num_train_epochs": 1}, lambda: Infinite((3,), value)))
    logged = [[row["loss"] for row in o.history if "loss" in row] for o in (reference, stepbus)]
    assert logged[0][2] == 0.0
    assert logged[1][2] != logged[1][2] or logged[1][2] == value
    assert logged[0][:2] + logged[0][3:] == logged[1][:2] + logged[1][3:]
    for name, weight in reference.weights.items():
        assert torch.equal(weight, stepbus.weights[name])


@covers(table.NAN_LOSSES)
def test_a_loss_of_an_evaluation_that_is_no_number(both: Both) -> None:
    reference, stepbus = both(
        Case("nan", {"eval_strategy": "epoch"}, lambda: Infinite((2,), in_training=False))
    )
    losses = [
        [m.metrics["eval_loss"] for m in o.of("evaluate") if m.metrics]
        for o in (reference, stepbus)
    ]
    assert [loss == loss for loss in losses[0]] == [True, True]
    assert [loss == loss for loss in losses[1]] == [False, True]
    assert losses[0][1] == losses[1][1]


@covers(table.NAN_LOSSES)
def test_losses_after_one_that_is_no_number(both: Both) -> None:
    arguments = {"num_train_epochs": 1, "logging_nan_inf_filter": False}
    outcomes = both(Case("nan", arguments, lambda: Infinite((3,))))
    losses = [[row["loss"] for row in o.history if "loss" in row] for o in outcomes]
    assert [loss == loss for loss in losses[0]] == [True, True, False, False, False, False]
    assert [loss == loss for loss in losses[1]] == [True, True, False, True, True, True]


@covers(table.NO_BEST_YET)
def test_best_metric_before_the_first(both: Both) -> None:
    case = scored("none", (float("nan"),) * 6, greater_is_better=True)
    reference, stepbus = both(case)
    assert (reference.state["best_metric"], stepbus.state["best_metric"]) == (float("-inf"), None)
    assert reference.folders == stepbus.folders
    assert reference.state["best_model_checkpoint"] == stepbus.state["best_model_checkpoint"]


@covers(table.FAILING_CALLBACK)
@pytest.mark.parametrize("hook", ["step_begin", "log", "train_begin", "save"])
def test_a_callback_that_raises(both: Both, hook: str) -> None:
    def failing(library: Library) -> list[Any]:
        def method(*args: Any, **keywords: Any) -> None:
            raise RuntimeError("the dashboard is gone")

        return [type("Failing", (library.TrainerCallback,), {f"on_{hook}": method})()]

    reference, stepbus = both(Case("failing", SCHEDULE, callbacks=failing))
    assert "the dashboard is gone" in reference.error
    assert not stepbus.error
    assert stepbus.state["step"] == 9


@covers(table.TAIL_OF_A_STREAM)
def test_the_tail_of_a_stream(both: Both) -> None:
    case = Case(
        "tail", {"max_steps": 4, "gradient_accumulation_steps": 4}, train=lambda: Stream(22)
    )
    reference, stepbus = both(case)
    assert reference.state["step"] == stepbus.state["step"] == 4
    assert reference.steps("epoch_end") == [1, 2, 3, 4]
    assert stepbus.steps("epoch_end") == [2, 4]
    assert any(begin.gradients for begin in reference.of("step_begin"))
    assert not any(begin.gradients for begin in stepbus.of("step_begin"))


@covers(table.LOSS_AFTER_RESUME)
def test_train_loss_after_a_resume(both: Both) -> None:
    def script(session: Session) -> None:
        session.results["whole"] = session.make().train()
        checkpoint = str(session.folder / "checkpoint-4")
        session.results["resumed"] = session.make().train(resume_from_checkpoint=checkpoint)

    case = Case("resume", {"save_strategy": "steps", "save_steps": 4}, script=script)
    reference, stepbus = both(case)
    whole = reference.results["whole"].training_loss
    losses = [row["loss"] for row in reference.history if "loss" in row]
    assert reference.results["resumed"].training_loss == pytest.approx(sum(losses[4:]) / 8)
    assert stepbus.results["resumed"].training_loss == pytest.approx(whole)
    assert stepbus.results["whole"].training_loss == whole


@covers(table.SLOW_GAINS)
def test_slow_gains(both: Both) -> None:
    slow = (5.0, 4.6, 4.2, 3.8, 3.4, 3.0)
    reference, stepbus = both(scored("slow", slow, stopping(2, 0.5)))
    assert (reference.state["step"], stepbus.state["step"]) == (6, 12)
    as_there = scored(
        "slow",
        slow,
        lambda library: stopping(
            2, 0.5, **({"count_slow_gains_as_failures": True} if library is STEPBUS else {})
        )(library),
    )
    reference, stepbus = both(as_there)
    assert (reference.state["step"], stepbus.state["step"]) == (6, 6)


def counting(library: Library, start: int) -> Any:
    """A callback of the reference's exportable shape that counts steps."""

    class Counting(library.TrainerCallback, *_exportable(library)):  # type: ignore[misc,name-defined]
        def __init__(self, start: int = 0) -> None:
            self.start = start
            self.count = start

        def on_step_end(self, *args: Any, **keywords: Any) -> None:
            self.count += 1

        def state(self) -> dict[str, Any]:
            return {"args": {"start": self.start}, "attributes": {"count": self.count}}

    return Counting(start)


def _exportable(library: Library) -> tuple[type, ...]:
    if library is STEPBUS:
        return ()
    return (REFERENCE.trainer_callback.ExportableState,)


def resume_with_counters(*starts: int) -> Callable[[Session], None]:
    """Trains and saves at 4, 8 and 12, then resumes from 8 with other counters of one class."""

    def script(session: Session) -> None:
        for checkpoint in (None, "checkpoint-8"):
            trainer = session.make(restore_callback_states_from_checkpoint=True)
            counters = [counting(session.library, start) for start in starts]
            for counter in counters:
                trainer.add_callback(counter)
            path = None if checkpoint is None else str(session.folder / checkpoint)
            trainer.train(resume_from_checkpoint=path)
            found = [c for c in trainer.callback_handler.callbacks if hasattr(c, "count")]
            session.results["counts"] = [counter.count for counter in found]
            session.results["kept"] = [a is b for a, b in zip(found, counters, strict=False)]

    return script


SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}


@covers(table.CALLBACKS_OF_ONE_CLASS)
def test_several_stateful_callbacks_of_one_class(both: Both) -> None:
    reference, stepbus = both(Case("two", SAVED, script=resume_with_counters(0, 100)))
    assert reference.results["counts"] == [4, 104]
    assert stepbus.results["counts"] == [12, 112]
    states = stepbus.json["checkpoint-12"]["stateful_callbacks"]["Counting"]
    assert [state["attributes"]["count"] for state in states] == [12, 112]


@covers(table.INSTANCES_KEPT)
def test_instances_of_stateful_callbacks(both: Both) -> None:
    reference, stepbus = both(Case("one", SAVED, script=resume_with_counters(0)))
    assert reference.results == {"counts": [12], "kept": [False]}
    assert stepbus.results == {"counts": [12], "kept": [True]}


@covers(table.PRINTER)
def test_total_flos_for_callbacks_after_the_printer(both: Both) -> None:
    def script(session: Session) -> None:
        trainer = session.make()
        base = session.library.TrainerCallback
        trainer.add_callback(make_recorder(base, session.results["calls"], session.folder))
        trainer.train()

    def with_list(session: Session) -> None:
        session.results["calls"] = []
        script(session)

    outcomes = both(Case("printer", {"num_train_epochs": 1}, script=with_list))
    logs = [o.results["calls"][-2].logs for o in outcomes]
    assert ["total_flos" in log for log in logs] == [False, True]
    assert all("total_flos" in outcome.history[-1] for outcome in outcomes)


@covers(table.WEIGHTS_ALONE)
def test_resume_from_weights_alone(both: Both) -> None:
    def script(session: Session) -> None:
        session.make().train()
        checkpoint = str(session.folder / "checkpoint-4")
        session.results["step"] = session.make().train(resume_from_checkpoint=checkpoint)[0]

    reference, stepbus = both(Case("weights", SAVED | {"save_only_model": True}, script=script))
    assert reference.results["step"] == 12
    assert stepbus.error.startswith("CheckpointError: ")
    assert "save_only_model" in stepbus.error


@covers(table.STREAM_THAT_ENDS)
def test_a_stream_that_ends_too_early(both: Both) -> None:
    reference, stepbus = both(Case("ends", {"max_steps": 8}, train=lambda: Once(10)))
    assert "Batch does not contain any data" in reference.error
    assert not stepbus.error
    assert stepbus.results["train"].global_step == 3
