"""The card that `create_model_card` writes, line by line beside the reference's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stepbus import Trainer, TrainingArguments
from tests.compat.pairs import make, of_both
from tests.differential.data import rows, texts
from tests.differential.libraries import DATASETS, REFERENCE, Library
from tests.differential.models import Regression, adapted, classifier, gpt2
from tests.engine.trainer.conftest import samples
from tests.subscribers.uploads.hub_server import HubServer

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
FROM_NOTHING = "is a fine-tuned version of [](https://huggingface.co/) on"
"""What the reference says of a model that was loaded from nowhere."""


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": 0.123456789, "f1": 1 / 3, "some_thing": 2.0}


def written(library: Library, folder: Path, prepare: Callable[[Any], None], **made: Any) -> str:
    REFERENCE.set_seed(5)
    given = made.pop("given", lambda: {"model": gpt2(), **TEXT})()
    trainer = make(library, folder, given=given, **made)
    prepare(trainer)
    return (folder / library.name / "README.md").read_text()


def comparable(card: str) -> str:
    """Without what each says in its own words, and what differs on purpose."""
    card = COMMENT.sub("", card).replace(FROM_NOTHING, "was trained from scratch on")
    card = re.sub(r"OptimizerNames\.\w+", lambda found: found[0].partition(".")[2].lower(), card)
    card = re.sub(r"\n- Stepbus .*", "", card)
    card = re.sub(r"(num_epochs: \d+)\.0\n", r"\1\n", card)
    card = re.sub(r"- eval_model_preparation_time: .*\n", "", card)
    return re.sub(r"_runtime: .*|_per_second: .*", "", card)


TEXT: dict[str, Any] = {"train_dataset": texts(12)(), "eval_dataset": texts(5, seed=1)()}


def trained(trainer: Any) -> None:
    trainer.train()
    trainer.create_model_card(model_name="a name")


def saved(trainer: Any) -> None:
    trainer.train()
    trainer.save_model()
    trainer.create_model_card(model_name="a name", tags="one")


def evaluated(trainer: Any) -> None:
    trainer.evaluate()
    trainer.create_model_card(model_name="a name")


def as_made(trainer: Any) -> None:
    trainer.create_model_card(model_name="a name")


def with_everything(trainer: Any) -> None:
    trainer.train()
    trainer.evaluate()
    for tags in (["one", "two"], "three", ["one"]):
        trainer.create_model_card(
            language="en",
            license="mit",
            tags=tags,
            model_name="owner/a name",
            finetuned_from="some/model",
            tasks=["text-generation", "fill-mask", "no-task"],
            dataset_tags=["glue", "squad"],
            dataset=["GLUE", "SQuAD"],
            dataset_args=["mrpc"],
        )


def classification() -> dict[str, Any]:
    data = [{"input_ids": [n, n + 1], "labels": n % 3} for n in range(2, 14)]
    info = DATASETS.DatasetInfo(builder_name="glue", config_name="mrpc")
    named = DATASETS.Dataset.from_list(data, info=info, split="validation")
    return {
        "model": classifier(),
        "train_dataset": data,
        "eval_dataset": named,
        "compute_metrics": accuracy,
        "data_collator": REFERENCE.default_data_collator,
    }


CASES: dict[str, tuple[Callable[[Any], None], dict[str, Any]]] = {
    "trained and evaluated": (trained, {"eval_strategy": "epoch"}),
    "not evaluated": (trained, {"optim": "sgd", "optim_args": "momentum=0.5"}),
    "evaluated alone": (evaluated, {}),
    "as it was made": (as_made, {"max_steps": 7, "warmup_steps": 2}),
    "with everything": (
        with_everything,
        {
            "eval_strategy": "steps",
            "eval_steps": 2,
            "gradient_accumulation_steps": 2,
            "lr_scheduler_type": "cosine",
            "label_smoothing_factor": 0.1,
        },
    ),
    "a data set of the Hub and metrics": (
        trained,
        {"given": classification, "eval_strategy": "epoch", "logging_steps": 5},
    ),
    "an adapter": (saved, {"given": lambda: {"model": adapted(), **TEXT}}),
}


@pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore:.is_gradient_ch:FutureWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_card_is_that_of_the_reference(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    prepare, made = CASES[name]
    theirs, ours = of_both(lambda library: written(library, tmp_path, prepare, **dict(made)))
    assert comparable(ours).splitlines() == comparable(theirs).splitlines()
    assert "- Stepbus " in ours
    assert yaml.safe_load(ours.split("---\n")[1]) == yaml.safe_load(theirs.split("---\n")[1])


def test_the_license_is_that_of_the_model_it_was_made_from(tmp_path: Path, hub: HubServer) -> None:
    hub.make("they/their-model")
    hub.repositories["they/their-model"].tags.append("license:mit")

    def prepare(trainer: Any) -> None:
        trainer.create_model_card(finetuned_from="they/their-model")

    theirs, ours = of_both(lambda library: written(library, tmp_path, prepare))
    assert "license: mit\nbase_model: they/their-model\n" in ours
    assert yaml.safe_load(ours.split("---\n")[1])["license"] == "mit"
    assert "license: mit\n" in theirs


def test_a_card_on_disk_that_is_none_is_written_anew(tmp_path: Path) -> None:
    args = TrainingArguments(str(tmp_path / "mine"), report_to="none", use_cpu=True)
    trainer = Trainer(Regression(), args, train_dataset=rows(4))
    for text in ("no front matter", "---\n[unclosed\n---\n", "---\n- a list\n---\n"):
        path = tmp_path / "mine" / "README.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        trainer.create_model_card(tags="one")
        assert path.read_text().startswith(
            "---\ntags:\n- one\n- generated_from_trainer\nmodel-index"
        )


def test_a_model_that_is_not_of_transformers_has_a_card_without_its_library(tmp_path: Path) -> None:
    args = TrainingArguments(str(tmp_path / "plain"), report_to="none", use_cpu=True, max_steps=2)
    trainer = Trainer(Regression(), args, train_dataset=rows(4), eval_dataset=samples(4))
    trainer.train()
    trainer.create_model_card()
    card = (tmp_path / "plain" / "README.md").read_text()
    assert "library_name" not in card
    assert "# plain\n\nThis model was trained from scratch on an unknown dataset.\n" in card
