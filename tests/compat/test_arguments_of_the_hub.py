"""The arguments of the Hub, and `push_to_hub`, beside the reference on the same server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepbus import DeliveryError, Trainer, TrainerCallback
from tests.compat.pairs import make, of_both
from tests.differential.libraries import DATASETS, REFERENCE, STEPBUS, Library
from tests.differential.models import gpt2, tokenizer
from tests.subscribers.uploads.hub_server import OWNER, TOKEN, Blob, HubServer

pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content=:DeprecationWarning"  # huggingface_hub of httpx2, as it sends a file
)

OF_THE_REFERENCE = {"training_args.bin"}
OF_STEPBUS = {"training_args.json"}
STRATEGIES = ["end", "every_save", "checkpoint", "all_checkpoints"]
STATES = ("state", "optimizer", "scheduler", "rng_state", "manifest", "run.json", "trainer_state")


def name_of(library: Library) -> str:
    return f"of-{library.name}"


def pushing(library: Library, folder: Path, **arguments: Any) -> Any:
    """A Trainer of a tiny GPT-2 with its tokenizer, which saves after each epoch."""
    chosen = {
        "push_to_hub": True,
        "hub_model_id": name_of(library),
        "hub_token": TOKEN,
        "hub_always_push": True,
        "save_strategy": "epoch",
        "eval_strategy": "epoch",
    }
    texts = [{"input_ids": [n, n + 1, n + 2], "labels": [n, n + 1, n + 2]} for n in range(3, 11)]
    REFERENCE.set_seed(5)
    given = {
        "model": gpt2(),
        "processing_class": tokenizer(),
        "data_collator": REFERENCE.default_data_collator,
        "train_dataset": DATASETS.Dataset.from_list(texts).with_format("torch"),
        "eval_dataset": DATASETS.Dataset.from_list(texts[:4]).with_format("torch"),
    }
    trainer = make(library, folder, given=given, **chosen | arguments)
    if library is REFERENCE:
        # It reads what it pushes from where it writes the next one.
        trainer.add_callback(waiting_for(trainer))
    return trainer


def waiting_for(trainer: Any) -> Any:
    class Waits(REFERENCE.TrainerCallback):  # type: ignore[misc,name-defined]
        def on_save(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            trainer._finish_current_push()

    return Waits()


def shown(files: dict[str, Blob]) -> dict[str, bytes]:
    """What of a repository both libraries write: models, tokenizers, whose bytes are compared."""
    apart = OF_THE_REFERENCE | OF_STEPBUS | {".gitattributes", "README.md"}
    return {
        path: blob.content
        for path, blob in files.items()
        if path.rpartition("/")[2] not in apart
        and not path.rpartition("checkpoint")[2].partition("/")[2].startswith(STATES)
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_training_leaves_what_the_reference_leaves(
    tmp_path: Path, hub: HubServer, strategy: str
) -> None:
    def heads(library: Library) -> dict[str, Any]:
        trainer = pushing(library, tmp_path, hub_strategy=strategy)
        trainer.train()
        assert trainer.hub_model_id == f"{OWNER}/{name_of(library)}"
        commits = hub.commits(name_of(library))
        # The reference has another commit for the checkpoint.
        names = [c.message for c in commits if not c.message.endswith(", checkpoint")]
        head = hub.repositories[trainer.hub_model_id].branches["main"][-1]
        return {"commits": names, "files": shown(head.files)}

    theirs, ours = of_both(heads)
    assert ours == theirs
    epochs = ["Training in progress, epoch 1", "Training in progress, epoch 2"]
    assert ours["commits"] == ([] if strategy == "end" else epochs)
    assert bool(ours["files"]) is (strategy != "end")


def test_push_to_hub_leaves_what_the_reference_leaves(tmp_path: Path, hub: HubServer) -> None:
    def pushed(library: Library) -> dict[str, Any]:
        seen: list[str] = []

        class Hears(library.TrainerCallback):  # type: ignore[misc,name-defined]
            def on_push_begin(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
                seen.append(f"push at step {state.global_step}")

            def on_save(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
                seen.append(f"save at step {state.global_step}")

        trainer = pushing(library, tmp_path, hub_strategy="every_save")
        trainer.add_callback(Hears)
        trainer.train()
        trainer.save_model()
        made = trainer.push_to_hub("A message", tags="mine", language="en", blocking=True)
        later = trainer.push_to_hub(blocking=False).result(timeout=60)
        commits = hub.commits(name_of(library))
        assert made.commit_url.startswith(f"{hub.url}/{OWNER}/{name_of(library)}/commit/")
        card = commits[-1].files["README.md"].content.decode()
        return {
            "seen": seen,
            "kind": type(made).__name__,
            "message": (made.commit_message, later.commit_message),
            "commits": [commit.message for commit in commits],
            "newest": later.oid == commits[-1].oid,
            "files": shown(commits[-1].files),
            "tags": "- mine\n- generated_from_trainer\n" in card and "language:\n- en\n" in card,
        }

    theirs, ours = of_both(pushed)
    assert ours == theirs
    assert ours["commits"][2:] == ["Model save", "A message", "End of training"]
    assert ours["seen"][:2] == ["push at step 2", "save at step 2"]


def test_overrides_are_called(tmp_path: Path, hub: HubServer) -> None:
    def called(library: Library) -> list[str]:
        seen: list[str] = []

        class Own(library.Trainer):  # type: ignore[misc,name-defined]
            def push_to_hub(self, *args: Any, **keywords: Any) -> Any:
                seen.append(f"push {args} {sorted(keywords.items())}")
                return super().push_to_hub(*args, **keywords)

            def create_model_card(self, *args: Any, **keywords: Any) -> None:
                seen.append(f"card {keywords.get('tags')}")
                super().create_model_card(*args, **keywords)

        trainer = pushing(library, tmp_path, eval_strategy="no")
        own = Own(trainer.model, trainer.args)
        own.save_model()
        return seen

    theirs, ours = of_both(called)
    assert ours == theirs
    assert len(ours) == 2


def test_a_token_is_used_and_written_nowhere(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    seen: list[Any] = []

    class Hears(TrainerCallback):
        def on_train_begin(self, args: Any, *rest: Any, **keywords: Any) -> None:
            seen.append((args.to_dict(), str(args), args.to_json_string()))

    trainer = pushing(STEPBUS, tmp_path, hub_strategy="checkpoint")
    trainer.add_callback(Hears)
    trainer.bus.subscribe("init_end", "train_begin")(lambda event: seen.append(event.to_json()))
    trainer.train()
    trainer.push_to_hub()
    assert trainer.args.hub_token == TOKEN
    assert "<HUB_TOKEN>" in str(seen)
    assert len(seen) >= 3
    assert TOKEN not in str(seen)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
    (repository,) = hub.repositories.values()
    commits = repository.branches["main"]
    assert not [b for c in commits for b in c.files.values() if TOKEN.encode() in b.content]


def test_a_repository_that_is_made_is_private_where_that_is_asked_for(
    tmp_path: Path, hub: HubServer
) -> None:
    def made(library: Library) -> list[bool]:
        found = []
        for private in (True, False, None):
            pushing(library, tmp_path, hub_private_repo=private)
            found.append(hub.repositories.pop(f"{OWNER}/{name_of(library)}").private)
        return found

    assert made(STEPBUS) == made(REFERENCE) == [True, False, False]


def test_a_branch_is_pushed_to(tmp_path: Path, hub: HubServer) -> None:
    def pushed(library: Library) -> tuple[list[str], ...]:
        name = name_of(library)
        hub.make(f"{OWNER}/{name}", "tries")
        trainer = pushing(library, tmp_path, hub_revision="tries")
        trainer.train()
        trainer.push_to_hub()
        return tuple([c.message for c in hub.commits(name, branch)] for branch in ("tries", "main"))

    theirs, ours = of_both(pushed)
    assert ours == theirs
    assert (len(ours[0]), ours[1]) == (3, [])
    with pytest.raises(DeliveryError, match=r"no branch 'nowhere' .hub_revision.: make it"):
        pushing(STEPBUS, tmp_path, hub_revision="nowhere")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hub_token": "hf_wrong"}, "'of-stepbus' .* cannot be written .*Invalid username"),
        ({"hub_model_id": "else/model"}, "'else/model' .* cannot be written .*under the namespace"),
    ],
)
def test_what_cannot_be_written_is_an_error_before_the_first_step(
    tmp_path: Path, hub: HubServer, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(DeliveryError, match=said) as caught:
        pushing(STEPBUS, tmp_path, **arguments)
    assert "hf_wrong" not in str(caught.value)


def test_a_missing_token_is_an_error_before_the_first_step(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DeliveryError, match=r"no token .* give hub_token, set HF_TOKEN, or log in"):
        pushing(STEPBUS, tmp_path, hub_token=None)
    assert not hub.requests


def test_an_evaluation_asks_nothing_of_the_hub(tmp_path: Path, hub: HubServer) -> None:
    trainer = pushing(STEPBUS, tmp_path)
    assert hub.requests
    hub.requests.clear()
    trainer.evaluate()
    trainer.log({"one": 1.0})
    assert not hub.requests


def test_a_folder_s_name_that_the_hub_does_not_take_asks_for_another(
    tmp_path: Path, hub: HubServer
) -> None:
    args = STEPBUS.TrainingArguments(str(tmp_path / "my model"), push_to_hub=True)
    with pytest.raises(ValueError, match=r"called like output_dir, 'my model'.* Give hub_model_id"):
        Trainer(gpt2(), args)
