"""A repository on the Hugging Face Hub: what is in it, and commits, each whole or not there."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...schemas.errors import DeliveryError
from .bandwidth import Bandwidth
from .interruption import (
    InterruptedUpload,
    Interruption,
    LocalFileError,
    RefusedUpload,
    within,
)
from .paced_file import PacedFile

OPEN_WITHIN_S = 12.0
"""How long the first answers may take, together."""
REFUSALS = frozenset({400, 401, 403, 404, 405, 410, 413, 422})
"""Statuses that another try would meet again."""

Content = Path | bytes
"""Of a file in a commit: where it is on disk, or what is in it."""


class HubRepository:
    """A model repository.

    The token is that which is given, else what huggingface_hub finds: HF_TOKEN, the login. The
    Hub is the one of HF_ENDPOINT.

    Args:
        name: `name`, of the token's owner, or `owner/name`.
        token: may write there.
        private: whether one that is made is private; None for what its owner prefers.
        revision: a branch; None for main.

    Raises:
        DeliveryError: huggingface_hub is not installed.
    """

    def __init__(
        self,
        name: str,
        *,
        token: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
    ) -> None:
        hub = _package(name)
        self._hub = hub
        self._name = name
        self._private = private
        self._revision = revision
        self._api: Any = hub.HfApi(
            endpoint=os.environ.get("HF_ENDPOINT") or None, token=token or None
        )
        self.repo_id = name
        """`owner/name`, once it is connected."""

    @property
    def url(self) -> str:
        """Its page."""
        return f"{self._api.endpoint}/{self.repo_id}"

    def connect(self) -> None:
        """Makes the repository, unless there is one, and sees whether it may be written.

        Raises:
            DeliveryError: there is no token, it is refused, or the Hub does not answer.
        """
        try:
            within(OPEN_WITHIN_S, self._connect, "stepbus-hub")
        except DeliveryError:
            raise
        except Exception as error:
            raise DeliveryError(
                f"The repository {self._name!r} on {self._api.endpoint} cannot be written "
                f"({_said(error)}): look at its name, at the token (hub_token, HF_TOKEN or `hf "
                "auth login`) and what it may do, and at the network."
            ) from error

    def _connect(self) -> None:
        if not (self._api.token or self._hub.get_token()):
            raise DeliveryError(
                f"There is no token to push to {self._name!r} with: give hub_token, set HF_TOKEN, "
                "or log in (`hf auth login`)."
            )
        made = self._api.create_repo(self._name, private=self._private, exist_ok=True)
        self.repo_id = str(made.repo_id)
        check = self._api.auth_check
        if "write" in inspect.signature(check).parameters:
            check(self.repo_id, write=True)
        if self._revision is not None:
            try:
                self._api.repo_info(self.repo_id, revision=self._revision)
            except self._hub.errors.RevisionNotFoundError as error:
                raise DeliveryError(
                    f"{self.repo_id} has no branch {self._revision!r} (hub_revision): make it, "
                    f"huggingface_hub.create_branch({self.repo_id!r}, branch={self._revision!r})."
                ) from error

    def files(self, folder: str) -> list[str]:
        """The files below a folder, by their path in the repository; none where it is not there."""
        with _explained():
            try:
                found = list(
                    self._api.list_repo_tree(
                        self.repo_id, folder, recursive=True, revision=self._revision
                    )
                )
            except self._hub.errors.EntryNotFoundError:
                return []
        return [entry.path for entry in found if isinstance(entry, self._hub.hf_api.RepoFile)]

    def folders(self) -> list[str]:
        """The names of its folders."""
        with _explained():
            found = list(self._api.list_repo_tree(self.repo_id, revision=self._revision))
        return [entry.path for entry in found if isinstance(entry, self._hub.hf_api.RepoFolder)]

    def read(self, path: str) -> bytes:
        """The content of a small file; empty where there is none."""
        with _explained(), tempfile.TemporaryDirectory() as folder:
            try:
                found = self._api.hf_hub_download(
                    self.repo_id, path, revision=self._revision, local_dir=folder
                )
            except self._hub.errors.EntryNotFoundError:
                return b""
            return Path(found).read_bytes()

    def commit(
        self,
        message: str,
        files: Mapping[str, Content],
        deletions: list[str],
        bandwidth: Bandwidth,
        interruption: Interruption,
    ) -> Any:
        """Makes one commit; files that are there as they are cost a question.

        A single one, whatever its size: `upload_folder` may make several, between which a reader
        finds half of it.

        Args:
            message: its first line.
            files: by their path in the repository.
            deletions: paths in the repository; with a slash at the end, a folder.

        Returns:
            huggingface_hub's `CommitInfo`.

        Raises:
            LocalFileError: a file is gone.
            InterruptedUpload: the time is over.
            RefusedUpload: the Hub says no.
            Exception: what may be tried again.
        """
        interruption.check()
        opened: list[PacedFile] = []
        operations: list[Any] = []
        try:
            for path, content in files.items():
                source: Any = content
                if isinstance(content, Path):
                    if not content.is_file():
                        raise LocalFileError(f"{content} is gone")
                    if bandwidth.is_limited:
                        source = PacedFile(content, bandwidth, interruption)
                        opened.append(source)
                operations.append(
                    self._hub.CommitOperationAdd(path_in_repo=path, path_or_fileobj=source)
                )
            for file in opened:
                file.is_sent = True  # Its sum has been taken.
            operations += [self._hub.CommitOperationDelete(path_in_repo=path) for path in deletions]
            interruption.check()
            with _explained():
                return self._api.create_commit(
                    self.repo_id,
                    operations,
                    commit_message=message,
                    revision=self._revision,
                    num_threads=1 if bandwidth.is_limited else 5,
                )
        finally:
            for file in opened:
                file.close()

    def in_background(self, function: Callable[[], Any]) -> Any:
        """A `Future` of what a function returns, as huggingface_hub makes them."""
        return self._api.run_as_future(function)

    def license_of(self, model: str) -> str | None:
        """The license of a model on the Hub, where it says."""
        info = self._api.model_info(model, timeout=OPEN_WITHIN_S)
        tags = [tag for tag in info.tags or () if tag.startswith("license:")]
        return tags[-1].removeprefix("license:") if tags else None


def _package(name: str) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise DeliveryError(
            f"Pushing to {name!r} needs the package huggingface_hub, which cannot be imported "
            f"({error}): pip install 'stepbus[hub]'."
        ) from error
    return huggingface_hub


def hide_progress_bars() -> Callable[[], None]:
    """Has huggingface_hub show none in this process; what shows them again."""
    utils: Any = _package("the Hub").utils
    if utils.are_progress_bars_disabled():
        return lambda: None
    utils.disable_progress_bars()
    show: Callable[[], None] = utils.enable_progress_bars
    return show


@contextmanager
def _explained() -> Iterator[None]:
    """Raises what another try would not help as such."""
    try:
        yield
    except Exception as error:
        for cause in _causes_of(error):
            if isinstance(cause, InterruptedUpload):
                raise cause from None
            if isinstance(cause, FileNotFoundError):
                raise LocalFileError(f"{cause.filename} is gone") from error
            if getattr(getattr(cause, "response", None), "status_code", None) in REFUSALS:
                raise RefusedUpload(_said(error)) from error
        raise


def _causes_of(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _said(error: Exception) -> str:
    """An error in one line; the Hub's have several."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
