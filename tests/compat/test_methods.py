"""What scripts call on a Trainer, beside the reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compat.apart import PREPARATION_TIME
from tests.compat.pairs import LIBRARIES, make, of_both
from tests.differential.case import Case, Outcome, Session
from tests.differential.data import rows, texts
from tests.differential.libraries import REFERENCE, STEPBUS, Library
from tests.differential.models import Frozen, Regression, classifier, gpt2

Check = Callable[[Case], Outcome]

TEXT: dict[str, Any] = {"train": texts(12), "eval": texts(5, seed=1)}


def calls(session: Session) -> None:
    """One after the other, with every keyword that there is."""
    trainer, results = session.make(), session.results
    results["train"] = trainer.train(
        resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=["hidden"]
    )
    results["evaluate"] = trainer.evaluate(
        eval_dataset=rows(5, 3), ignore_keys=["hidden"], metric_key_prefix="own"
    )
    results["predict"] = trainer.predict(
        test_dataset=rows(5, 3), ignore_keys=None, metric_key_prefix="own"
    )
    trainer.log({"one": 1.0}, None)
    trainer.log(logs={"two": 2.0})


def not_resumed(session: Session) -> None:
    session.results["train"] = session.make().train(resume_from_checkpoint=False)


def figures(session: Session) -> None:
    trainer, results = session.make(), session.results
    results["parameters"] = trainer.get_num_trainable_parameters()
    results["decayed"] = trainer.get_decay_parameter_names(trainer.model)
    trainer.create_optimizer_and_scheduler(num_training_steps=10)
    results["rates at first"] = trainer.get_learning_rates()
    results["train"] = trainer.train()
    results["rates"] = trainer.get_learning_rates()
    results["zero"] = trainer.is_world_process_zero(), trainer.is_local_process_zero()
    loader = trainer.get_train_dataloader()
    results["examples"] = trainer.num_examples(loader)
    results["examples to test"] = trainer.num_examples(trainer.get_test_dataloader(rows(9)))
    batch = next(iter(trainer.get_eval_dataloader()))
    results["flos"] = trainer.floating_point_ops(batch)
    results["state"] = trainer.state.total_flos
    results["device"] = {str(value.device) for value in batch.values()}


def parts(session: Session) -> None:
    """What overrides call of the rest."""
    trainer, results = session.make(), session.results
    trainer.create_optimizer_and_scheduler(num_training_steps=10)
    made, keywords = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
    results["optimizer"] = made.__name__, keywords
    weight, *_ = trainer.model.parameters()
    group = trainer.get_optimizer_group(weight)
    results["group"] = {name: value for name, value in group.items() if name != "params"}
    results["groups"] = [len(found) for found in trainer.get_optimizer_group()]
    results["rate"] = trainer._get_learning_rate()
    with trainer.compute_loss_context_manager():
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        results["loss"] = trainer.compute_loss(trainer.model, batch)
    surplus = [{**row, "more": 1.0} for row in session.case.eval()]
    removed = trainer._remove_unused_columns(
        import_module("datasets").Dataset.from_list(surplus), description="test"
    )
    results["columns"] = sorted(removed.column_names)
    trainer._set_signature_columns_if_needed()
    collate = trainer._get_collator_with_removed_columns(trainer.data_collator)
    results["collated"] = sorted(collate(surplus[:2]))
    loader = trainer._get_dataloader(session.case.eval(), description="test", batch_size=3)
    results["batches"] = [len(one["labels"]) for one in loader]


CASES = [
    Case("parts", script=parts),
    Case("calls", script=calls, except_for=(PREPARATION_TIME,)),
    Case("train from no checkpoint", script=not_resumed),
    Case("figures of a regression", script=figures),
    Case("figures of a frozen one", {}, Frozen, script=figures),
    Case("figures of GPT-2", {}, gpt2, script=figures, **TEXT),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases(check: Check, case: Case) -> None:
    check(case)


METRICS = {
    "train_loss": 0.123456789,
    "train_runtime": 3723.4567,
    "total_flos": 5 * 2**30 + 1,
    "eval_samples": 12,
    "epoch": 3.0,
}


def test_metrics_are_printed_and_written_as_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def written(library: Library) -> Any:
        trainer = make(library, tmp_path)
        capsys.readouterr()
        trainer.log_metrics("train", METRICS)
        printed = capsys.readouterr().out
        trainer.save_metrics("train", METRICS)
        trainer.save_metrics("eval", {"eval_loss": 0.5}, combined=False)
        folder = Path(trainer.args.output_dir)
        files = {path.name: path.read_text() for path in folder.glob("*_results.json")}
        # Of the class: the reference's takes no self.
        return printed, files, type(trainer).metrics_format(METRICS)

    theirs, ours = of_both(written)
    assert ours == theirs
    assert len(ours[1]) == 3


def test_a_saved_state_is_the_reference_s(tmp_path: Path) -> None:
    def saved(library: Library) -> dict[str, Any]:
        trainer = make(library, tmp_path)
        trainer.train()
        trainer.save_state()
        text = (Path(trainer.args.output_dir) / "trainer_state.json").read_text()
        state: dict[str, Any] = json.loads(text)
        for row in state["log_history"]:
            for name in [name for name in row if "second" in name or "runtime" in name]:
                del row[name]
        return state

    theirs, ours = of_both(saved)
    # The flag of a stop that has acted is cleared here.
    for state in (theirs, ours):
        control = state["stateful_callbacks"].get("TrainerControl", {}).get("args", {})
        control.pop("should_training_stop", None)
    assert ours == theirs


@LIBRARIES
@pytest.mark.parametrize("own_folder", [True, False])
def test_a_saved_model_comes_back_by_from_pretrained(
    library: Library, tmp_path: Path, own_folder: bool
) -> None:
    given = {"model": classifier(), "train_dataset": sentences(8), "eval_dataset": sentences(4)}
    trainer = make(library, tmp_path, given=given, max_steps=2)
    trainer.train()
    folder = tmp_path / "elsewhere" if own_folder else Path(trainer.args.output_dir)
    trainer.save_model(*([str(folder)] if own_folder else []))
    again = REFERENCE.AutoModelForSequenceClassification.from_pretrained(folder)
    pairs = zip(trainer.model.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert {"config.json", "model.safetensors"} <= {path.name for path in folder.iterdir()}


def sentences(count: int) -> list[dict[str, Any]]:
    return [row | {"labels": sum(row["input_ids"]) % 3} for row in texts(count)()]


@LIBRARIES
def test_callbacks_are_added_popped_and_removed(library: Library, tmp_path: Path) -> None:
    class Own(library.TrainerCallback):  # type: ignore[misc,name-defined]
        pass

    class Other(library.TrainerCallback):  # type: ignore[misc,name-defined]
        pass

    trainer = make(library, tmp_path)
    callbacks = trainer.callback_handler.callbacks
    one = Own()
    trainer.add_callback(one)
    trainer.add_callback(Other)
    assert [type(callback).__name__ for callback in trainer.callback_handler.callbacks] == [
        *(type(callback).__name__ for callback in callbacks[:2]),
        "Own",
        "Other",
    ]
    assert trainer.pop_callback(Own) is one
    assert trainer.pop_callback(Own) is None
    assert trainer.pop_callback(one) is None
    trainer.add_callback(one)
    assert trainer.pop_callback(one) is one
    trainer.remove_callback(Other)
    trainer.remove_callback(Other)
    names = [type(callback).__name__ for callback in trainer.callback_handler.callbacks]
    assert names == ["DefaultFlowCallback", "PrinterCallback"]


def test_a_log_adds_the_epoch_and_a_row(tmp_path: Path) -> None:
    def logged(library: Library) -> Any:
        trainer = make(library, tmp_path, num_train_epochs=1)
        trainer.train()
        trainer.log({"own": 1.5})
        return trainer.state.log_history[-1]

    theirs, ours = of_both(logged)
    assert ours == theirs == {"own": 1.5, "epoch": 1.0, "step": 3}


def test_searches_are_refused(tmp_path: Path) -> None:
    trainer = make(STEPBUS, tmp_path, given={"model_init": lambda: Regression()})
    with pytest.raises(ValueError, match=r"train\(trial=...\) is not supported"):
        trainer.train(trial={"learning_rate": 1.0})
    with pytest.raises(AttributeError, match="make one Trainer for each trial"):
        trainer.hyperparameter_search(direction="minimize")
