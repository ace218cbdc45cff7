"""What scripts and callbacks read of a Trainer and of its arguments, beside the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stepbus.schemas.trainer_names import ATTRIBUTES, UNSUPPORTED_ATTRIBUTES
from tests.compat.pairs import LIBRARIES, make, of_both
from tests.differential.case import QUIET, Case, Outcome, Session
from tests.differential.libraries import STEPBUS, Library
from tests.differential.models import Regression

Check = Callable[[Case], Outcome]

GIVEN: dict[str, Any] = {
    "compute_metrics": lambda prediction: {},
    "compute_loss_func": None,
    "preprocess_logits_for_metrics": lambda logits, labels: logits,
    "optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.1}),
    "data_collator": torch.utils.data.default_collate,
    "processing_class": nn.Identity(),
}


def facts(library: Library, folder: Path, *, trained: bool) -> dict[str, Any]:
    """Each attribute in a form that can be compared."""
    trainer = make(library, folder, given=GIVEN, max_steps=2)
    if trained:
        trainer.train()
    shown: dict[str, Any] = {}
    from_train_on = set() if trained else {"current_gradient_accumulation_steps"}
    for name in ATTRIBUTES - {"tokenizer"} - from_train_on:
        value = getattr(trainer, name)
        plain = value is None or isinstance(value, bool | str | list)
        shown[name] = value if plain and not isinstance(value, list) else type(value).__name__
        if name in GIVEN:
            shown[name] = value is GIVEN[name]
    for name, other in (("model", "model_wrapped"), ("train_dataset", "eval_dataset")):
        shown[f"{name} is {other}"] = getattr(trainer, name) is getattr(trainer, other)
    shown["label_names"] = trainer.label_names
    shown["optimizer"] = trainer.optimizer is not None
    shown["lr_scheduler"] = trainer.lr_scheduler is not None
    shown["steps"] = trainer.state.global_step
    shown["args"] = type(trainer.args).__name__
    return shown


@pytest.mark.parametrize("trained", [False, True])
def test_attributes_are_those_of_the_reference(tmp_path: Path, trained: bool) -> None:
    theirs, ours = of_both(lambda library: facts(library, tmp_path, trained=trained))
    assert ours == theirs
    trainer = make(STEPBUS, tmp_path, given=GIVEN)
    assert trainer.tokenizer is GIVEN["processing_class"]


def test_it_is_in_train_while_it_trains(check: Check) -> None:
    """In hooks, too; the recorder's calls are compared by the case."""
    seen: dict[str, list[Any]] = {}

    def watching(session: Session) -> None:
        trainer = session.make()
        found = seen.setdefault(session.library.name, [trainer.is_in_train])

        class Watches(session.library.TrainerCallback):  # type: ignore[misc,name-defined]
            def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
                same = keywords["model"] is trainer.model, state is trainer.state
                found.append((trainer.is_in_train, *same, control is trainer.control))

        trainer.add_callback(Watches)
        trainer.train()
        found.append(trainer.is_in_train)

    check(Case("is_in_train", script=watching))
    assert seen["stepbus"] == seen["transformers"]
    assert seen["stepbus"][:2] == [False, (True, True, True, True)]


@pytest.mark.parametrize("name", sorted(UNSUPPORTED_ATTRIBUTES))
def test_an_attribute_that_there_is_none_of_says_why(tmp_path: Path, name: str) -> None:
    trainer = make(STEPBUS, tmp_path)
    with pytest.raises(AttributeError) as caught:
        getattr(trainer, name)
    assert str(caught.value) == f"stepbus's Trainer has no {name}: {UNSUPPORTED_ATTRIBUTES[name]}."


MEMBERS = """
device n_gpu world_size process_index local_process_index parallel_mode train_batch_size
eval_batch_size should_log should_save place_model_on_device
""".split()


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_of_the_arguments_is_that_of_the_reference(tmp_path: Path, name: str) -> None:
    arguments = {"per_device_train_batch_size": 3, "per_device_eval_batch_size": 5}
    theirs, ours = of_both(lambda library: getattr(make(library, tmp_path, **arguments).args, name))
    assert ours == theirs


def test_what_members_of_the_arguments_compute_is_that_of_the_reference(tmp_path: Path) -> None:
    def computed(library: Library) -> Any:
        args = make(library, tmp_path, warmup_steps=0.1, log_level="info").args
        with args.main_process_first(local=False, desc="tokenizing") as nothing:
            pass
        return args.get_process_log_level(), args.get_warmup_steps(1005), nothing

    theirs, ours = of_both(computed)
    assert ours == theirs
    assert ours[1] == 101


def test_the_arguments_written_down_have_all_of_the_reference_s(tmp_path: Path) -> None:
    for form in ("to_dict", "to_sanitized_dict"):
        theirs, ours = of_both(lambda library: getattr(make(library, tmp_path).args, form)())  # noqa: B023
        assert theirs.keys() <= ours.keys()
        # The reference fills these in; here they stay at the default that says nothing.
        apart = {"output_dir", "accelerator_config", "report_to", "fsdp_config", "debug", "fsdp"}
        differing = {name for name in theirs.keys() - apart if theirs[name] != ours[name]}
        assert differing == set(), {name: (theirs[name], ours[name]) for name in differing}
    text = make(STEPBUS, tmp_path).args.to_json_string()
    assert '"learning_rate": 0.02' in text


SETTERS: dict[str, dict[str, Any]] = {
    "set_training": {"learning_rate": 0.05, "batch_size": 3, "weight_decay": 0.1, "seed": 4},
    "set_evaluate": {"strategy": "steps", "steps": 3, "batch_size": 5, "delay": 4},
    "set_testing": {"batch_size": 3},
    "set_save": {"strategy": "steps", "steps": 4, "total_limit": 1},
    "set_logging": {"strategy": "steps", "steps": 2, "report_to": "none", "first_step": True},
    "set_optimizer": {"name": "sgd", "weight_decay": 0.1, "args": "momentum=0.9"},
    "set_lr_scheduler": {"name": "cosine", "max_steps": 7, "warmup_steps": 2},
    "set_dataloader": {"train_batch_size": 2, "drop_last": True, "sampler_seed": 3},
}


@pytest.mark.parametrize("setter", SETTERS)
def test_a_setter_has_the_effect_that_it_has_there(check: Check, setter: str) -> None:
    def script(session: Session) -> None:
        args = session.library.TrainingArguments(str(session.folder), **QUIET)
        getattr(args, setter)(**SETTERS[setter])
        case, library = session.case, session.library
        torch.manual_seed(7)
        session.trainer = library.Trainer(
            Regression(), args, train_dataset=case.train(), eval_dataset=case.eval()
        )
        session.results["train"] = session.trainer.train()
        session.results["predict"] = session.trainer.predict(case.eval()).metrics.keys()

    check(Case(setter, script=script))


def test_the_ninth_setter_is_that_of_the_hub(tmp_path: Path) -> None:
    def pushing(library: Library) -> Any:
        args = make(library, tmp_path).args
        args.set_push_to_hub("me/model", "checkpoint", "secret", True, always_push=True)
        return {name: value for name, value in vars(args).items() if "hub" in name}

    theirs, ours = of_both(pushing)
    assert {name: getattr(value, "value", value) for name, value in theirs.items()} == ours
    assert ours["push_to_hub"] is True
    found = {name for name in dir(make(STEPBUS, tmp_path).args) if name.startswith("set_")}
    assert found == {*SETTERS, "set_push_to_hub"}


@LIBRARIES
@pytest.mark.parametrize("place", [False, True])
def test_a_subclass_of_the_arguments_says_where_the_model_is_placed(
    library: Library, tmp_path: Path, place: bool
) -> None:
    class Own(library.TrainingArguments):  # type: ignore[misc,name-defined]
        @property
        def place_model_on_device(self) -> bool:
            return place

    class Remembers(Regression):
        placed = 0

        def to(self, *args: Any, **keywords: Any) -> Any:
            self.placed += 1
            return super().to(*args, **keywords)

    model = Remembers()
    args = Own(str(tmp_path / "out"), **QUIET)
    library.Trainer(model, args)
    assert bool(model.placed) is place
