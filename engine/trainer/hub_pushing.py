"""`push_to_hub` and `create_model_card`, for the Trainer to inherit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import nn

from ...bus import EventBus
from ...bus.registry import Registry
from ...schemas import TrainerState, TrainingArguments
from ..checkpoint.weights import unwrap
from .model_card import card_of, front_matter
from .trainer_run import TrainerRun

CARD = "README.md"


class HubPushing:
    """Pushes what is in the output folder to the Hub, with a card that says how it was trained."""

    args: TrainingArguments
    model: nn.Module
    state: TrainerState
    train_dataset: Any
    eval_dataset: Any
    bus: EventBus
    hub_model_id: str | None
    save_model: Callable[..., None]
    _session: Callable[[str], AbstractContextManager[TrainerRun]]

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Saves the model, writes its card, and pushes the output folder as one commit.

        Checkpoints are left out, and what stepbus and trackers keep there for themselves. What is
        still being pushed of a checkpoint comes first.

        Args:
            commit_message: first line of the commit.
            blocking: False for a `Future` of what is returned otherwise, at once.
            token: in place of `hub_token`.
            revision: in place of `hub_revision`.
            private: in place of `hub_private_repo`, for a repository that is made.
            kwargs: for `create_model_card`.

        Returns:
            huggingface_hub's `CommitInfo`.

        Raises:
            ArgumentError: the repository would have a name that it cannot have.
            DeliveryError: there is no token, the repository cannot be written, or huggingface_hub
                is not installed.
            Exception: what huggingface_hub raises.
        """
        hub = self._connect_to_hub(token, private)
        with self._session("push_to_hub") as run:
            run.announce("push_begin", {"repository": self.hub_model_id})
        self.save_model(_internal_call=True)
        folder = Path(self.args.output_dir)
        if kwargs.get("model_name") is None:
            kwargs["model_name"] = Path(self.args.hub_model_id or folder).name
        model_tags = getattr(self.model, "model_tags", None)
        if model_tags is not None:
            kwargs["tags"] = list(dict.fromkeys([*_listed(kwargs.get("tags")), *model_tags]))
        self.create_model_card(**kwargs)
        self.bus.flush(self.args.drain_timeout_s)
        message = commit_message or "End of training"
        return hub.push(folder, message, revision=revision, blocking=blocking)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,  # noqa: A002 - the reference's name
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Writes `README.md` into the output folder: how it was trained, and its results.

        Args:
            language: of the model.
            license: by default that of the model it was made from, where the Hub has it.
            tags: for the Hub; those of a card that is there are kept where some are given.
            model_name: the output folder's by default.
            finetuned_from: the model it was made from; by default where its weights came from.
            tasks: tags of tasks; by default that of the model's class.
            dataset_tags, dataset, dataset_args: tags, names and configurations of data sets; by
                default those of the data set that is evaluated, or trained on.

        Raises:
            OSError: the card cannot be written.
        """
        path = Path(self.args.output_dir) / CARD
        before = front_matter(path)
        if tags is not None:
            tags = list(dict.fromkeys([*_listed(tags), *_listed(before.get("tags"))]))
        card = card_of(
            self,
            self._license_of,
            language=language,
            license=license,
            tags=_listed(tags),
            model_name=model_name,
            finetuned_from=finetuned_from,
            tasks=tasks,
            dataset_tags=dataset_tags,
            dataset=dataset,
            dataset_args=dataset_args,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(card, encoding="utf-8")
        if before.get("library_name") == "peft":
            inner: Any = unwrap(self.model)
            inner.create_or_update_model_card(str(path.parent))

    def _connect_to_hub(self, token: str | None = None, private: bool | None = None) -> Any:
        hub = self._hub(token, private)
        self.hub_model_id = hub.connect()
        return hub

    def _hub(self, token: str | None = None, private: bool | None = None) -> Any:
        """The subscriber that pushes, which knows the way to the Hub."""
        kind: Any = Registry().load("hub")
        return kind.for_arguments(self.args, token=token, private=private)

    def _license_of(self, model: str) -> str | None:
        found: str | None = self._hub().license_of(model)
        return found


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
