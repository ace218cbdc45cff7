"""Pushes a run's model and checkpoints to a repository of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from ...bus.checks import check_count
from ...schemas import RunFailed, Save, TrainBegin, TrainingArguments
from ...schemas.errors import ArgumentError, nearest
from ...schemas.repository_names import repository_problem
from ...schemas.strategies import HubStrategy
from .bandwidth import Bandwidth, check_limit
from .checkpoint_uploads import CheckpointUploads
from .hub_contents import beside_checkpoints
from .hub_destination import HubDestination
from .hub_repository import HubRepository, hide_progress_bars
from .interruption import Interruption, Patience, RefusedUpload
from .uploading import Uploading, say_again

TRIES = 8


def _nothing() -> None:
    pass


class HubCallback(CheckpointUploads):
    """Pushes what the run saves to the Hub; `push_to_hub=True` adds one with the `hub_*` arguments.

    In the sidecar, from the checkpoint itself, while rotation waits. Each checkpoint is one commit:
    a reader finds all of it or none. The model is at the top of the repository, with what lies in
    the output folder beside the checkpoints. Where saves come faster than they are pushed, the
    newest is pushed. What fails is tried again after 0.5 s, 1 s, ... up to 30 s, then after the
    next save and at the end; files that have arrived are not sent again.

    Args:
        repository: `owner/name`, or `name` of the token's owner; made where there is none.
        strategy: "every_save" pushes the model; "checkpoint" the checkpoint too, as
            `last-checkpoint/`; "all_checkpoints" each of them, as `checkpoint-<step>/`; "end" the
            newest checkpoint's model when the training is over.
        token: may write there; HF_TOKEN or the login where None. It is written nowhere.
        private: whether a repository that is made is private.
        always_push: each save, rather than the newest.
        revision: the branch; it must exist. None for main.
        keep: of "all_checkpoints", how many of the run stay, besides the best one; all where None.
        max_mb_per_s: limit on what is sent, megabytes (a million bytes) a second.
        tries: how often a commit is tried, in all.

    Raises:
        ArgumentError: an argument that makes no sense.
        DeliveryError: in `open()`: there is no token, the repository cannot be written, or a
            package is missing.
    """

    def __init__(
        self,
        repository: str,
        *,
        strategy: Literal["end", "every_save", "checkpoint", "all_checkpoints"] = "every_save",
        token: str | None = None,
        private: bool | None = None,
        always_push: bool = False,
        revision: str | None = None,
        keep: int | None = None,
        max_mb_per_s: float | None = None,
        tries: int = TRIES,
    ) -> None:
        super().__init__()
        problem = repository_problem(repository)
        if problem:
            raise ArgumentError(f"The repository {repository!r} cannot be: {problem}.")
        if strategy not in list(HubStrategy):
            raise ArgumentError(f"strategy={strategy!r}: {nearest(str(strategy), HubStrategy)}")
        check_limit(max_mb_per_s)
        check_count("keep", keep, 1)
        check_count("tries", tries, 1)
        if keep is not None and strategy != "all_checkpoints":
            raise ArgumentError(
                f"keep={keep} with strategy={strategy!r}: only 'all_checkpoints' has several "
                "checkpoints in the repository. Leave keep out."
            )
        self.repository = repository
        self._strategy = str(strategy)
        self._token = token
        self._private = private
        self._always_push = always_push
        self._revision = revision
        self._keep = keep
        self._max_mb_per_s = max_mb_per_s
        self._tries = tries
        self._url = ""
        self._show_bars_again: Callable[[], None] = _nothing

    @classmethod
    def for_arguments(
        cls, args: TrainingArguments, *, token: str | None = None, private: bool | None = None
    ) -> Self:
        """The one that training arguments ask for.

        Args:
            args: whose `hub_*` it goes by.
            token, private: in place of those of the arguments, where they are not None.
        """
        name = args.hub_model_id or Path(args.output_dir).absolute().name
        problem = repository_problem(name)
        if problem:
            raise ArgumentError(
                f"The repository would be called like output_dir, {name!r}, and cannot: {problem}. "
                "Give hub_model_id."
            )
        return cls(
            name,
            strategy=str(args.hub_strategy),  # type: ignore[arg-type]
            token=args.hub_token if token is None else token,
            private=args.hub_private_repo if private is None else private,
            always_push=args.hub_always_push,
            revision=args.hub_revision,
        )

    def made_with(self) -> dict[str, Any]:
        """Its arguments; the token among them crosses in a pipe."""
        return {
            "repository": self.repository,
            "strategy": self._strategy,
            "token": self._token,
            "private": self._private,
            "always_push": self._always_push,
            "revision": self._revision,
            "keep": self._keep,
            "max_mb_per_s": self._max_mb_per_s,
            "tries": self._tries,
        }

    @property
    def pushes_to(self) -> str:
        """The repository that each save is pushed to; empty where none is."""
        return "" if self._strategy == "end" else self.repository

    def whereabouts(self) -> dict[str, str]:
        """The page of the repository, and that of the newest commit."""
        found = {"url": self._url, "latest": self._latest()}
        return {name: value for name, value in found.items() if value}

    def learn_whereabouts(self, found: Mapping[str, str]) -> None:
        """Takes them."""
        self._url = found.get("url", self._url)
        self.latest = found.get("latest", self.latest)

    def open(self) -> None:
        """Makes the repository, unless there is one, and sees whether it may be written."""
        interruption = self._interruption = Interruption()
        repository = self._repository()
        repository.connect()
        self._show_bars_again = hide_progress_bars()
        self._url = repository.url
        destination = HubDestination(
            repository,
            Bandwidth(self._max_mb_per_s, interruption.wait),
            interruption,
            self._tries,
            self._strategy,
            self._keep,
        )
        each = self._strategy == "all_checkpoints"
        self._uploading = Uploading(
            destination,
            most_owed=self._keep if each else 1,
            newest_alone=not (each or self._always_push),
        )

    def close(self) -> None:
        """Names what was not pushed."""
        self._show_bars_again()
        super().close()

    def on_train_begin(self, event: TrainBegin) -> None:
        """Pushes what an earlier attempt of the run left to be pushed."""
        if self._strategy != "end":
            super().on_train_begin(event)
        else:
            self._opened().begin(event.run_id, Path(event.output_dir))

    def on_save(self, event: Save) -> None:
        """Pushes the checkpoint."""
        if self._strategy != "end":
            super().on_save(event)

    def on_run_failed(self, event: RunFailed) -> None:
        """Tries what could not be pushed before."""
        if self._strategy != "end":
            super().on_run_failed(event)

    # For the Trainer, which pushes a folder when the training is over

    def connect(self) -> str:
        """Makes the repository, unless there is one; its `owner/name`.

        Raises:
            DeliveryError: as in `open()`.
        """
        repository = self._repository()
        repository.connect()
        return repository.repo_id

    def push(
        self, folder: Path, message: str, *, revision: str | None = None, blocking: bool = True
    ) -> Any:
        """Pushes an output folder, checkpoints left out, as one commit.

        Args:
            folder: the output folder.
            message: of the commit.
            revision: another branch than that of the callback.
            blocking: False for a `Future` of what is returned.

        Returns:
            huggingface_hub's `CommitInfo`.

        Raises:
            DeliveryError: as in `open()`.
            Exception: what huggingface_hub raises, in the last try where another may help.
        """
        repository = self._repository(revision)
        repository.connect()
        bandwidth, interruption = Bandwidth(self._max_mb_per_s), Interruption()
        patience = Patience(
            self._tries, interruption, lambda error, delay_s: say_again(folder.name, error, delay_s)
        )

        def commit() -> Any:
            files = beside_checkpoints(folder)
            return repository.commit(message, files, [], bandwidth, interruption)

        def push() -> Any:
            try:
                return patience.call(commit)
            except RefusedUpload as refusal:
                raise (refusal.__cause__ or refusal) from None

        return push() if blocking else repository.in_background(push)

    def license_of(self, model: str) -> str | None:
        """The license of a model on the Hub; None where it says none, or cannot be asked."""
        try:
            return self._repository().license_of(model)
        except Exception:
            return None

    def _repository(self, revision: str | None = None) -> HubRepository:
        return HubRepository(
            self.repository,
            token=self._token,
            private=self._private,
            revision=revision or self._revision,
        )
