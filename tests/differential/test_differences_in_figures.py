"""Differences on purpose in losses, metrics, random numbers and the order of the data."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.differential import differences as table
from tests.differential.case import Case, Outcome, Session
from tests.differential.conftest import Both
from tests.differential.data import Once, Stream, samples, text_table
from tests.differential.grouping import covers
from tests.differential.libraries import Library
from tests.differential.models import Infinite, Regression, gpt2
from tests.differential.recording import make_recorder
from tests.differential.scoring import scored
from tests.differential.voting import voter

EVALUATE = "should_evaluate"


@covers(table.NEUTRAL_LISTENERS)
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


@covers(table.NEUTRAL_LISTENERS)
def test_a_callback_that_draws_random_numbers(both: Both) -> None:
    def drawing(library: Library) -> list[Any]:
        def draw(*args: Any, **keywords: Any) -> None:
            torch.rand(3)

        return [type("Drawing", (library.TrainerCallback,), {"on_step_end": draw})()]

    plain = both(Case("none", {"num_train_epochs": 1}))
    drawn = both(Case("drawing", {"num_train_epochs": 1}, callbacks=drawing))
    assert [
        one.weights["out.bias"].equal(other.weights["out.bias"])
        for one, other in zip(plain, drawn, strict=True)
    ] == [False, True]


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


@covers(table.STREAM_THAT_ENDS)
def test_a_stream_that_ends_too_early(both: Both) -> None:
    reference, stepbus = both(Case("ends", {"max_steps": 8}, train=lambda: Once(10)))
    assert "Batch does not contain any data" in reference.error
    assert not stepbus.error
    assert stepbus.results["train"].global_step == 3


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
