"""A repository on the Hub as a destination: one commit for each checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .bandwidth import Bandwidth
from .contents import run_of, step_of
from .destination import Progress
from .hub_contents import (
    beside_checkpoints,
    best_of,
    commit_message,
    files_of,
    model_files_of,
    small_ones,
)
from .hub_repository import Content, HubRepository
from .interruption import Interruption, Patience
from .uploading import say_again

LAST = "last-checkpoint"
"""The folder in the repository that holds the last checkpoint under the strategy "checkpoint"."""


class HubDestination:
    """A `Destination`. The commit has the model at the top, what lies beside the checkpoints in the
    output folder, the checkpoint itself where the strategy wants it, and what is deleted: a
    reader of the repository finds all of it or none, and no marker is needed.

    Args:
        repository: connected.
        bandwidth: what may be sent a second.
        interruption: ends it.
        tries: how often a commit is tried, in all.
        strategy: one of the reference's.
        keep: how many checkpoints of a run stay under "all_checkpoints"; all where None.
    """

    def __init__(
        self,
        repository: HubRepository,
        bandwidth: Bandwidth,
        interruption: Interruption,
        tries: int,
        strategy: str,
        keep: int | None,
    ) -> None:
        self._repository = repository
        self._bandwidth = bandwidth
        self._interruption = interruption
        self._tries = tries
        self._strategy = strategy
        self._keep = keep
        self._runs: dict[str, str] = {}
        """Of checkpoints in the repository, by folder."""
        self._newest_commit = ""

    @property
    def address(self) -> str:
        """The page of the repository."""
        return self._repository.url

    def show(self, name: str) -> str:
        """The page of the newest commit."""
        return self._newest_commit or self.address

    def look_for_others(self, run_id: str) -> None:
        """Nothing: the next version of a model takes the place of the last, in its history."""

    def send(self, folder: Path, progress: Progress, *, best: bool) -> str:
        """Commits a checkpoint."""
        patience = Patience(
            self._tries,
            self._interruption,
            lambda error, delay_s: say_again(folder.name, error, delay_s),
        )
        # Of `progress` nothing is told: the files of a commit are there all at once.
        made = patience.call(self._commit, folder)
        self._newest_commit = str(made.commit_url)
        return f"commit {made.oid[:7]}"

    def _commit(self, folder: Path) -> Any:
        files: dict[str, Content] = small_ones(beside_checkpoints(folder.parent))
        files.update(model_files_of(folder))
        deletions: list[str] = []
        own = {"checkpoint": LAST, "all_checkpoints": folder.name}.get(self._strategy)
        if own is not None:
            wanted = {f"{own}/{name}": path for name, path in files_of(folder).items()}
            there = self._repository.files(own)
            deletions += sorted(set(there) - wanted.keys())
            files.update(wanted)
        if self._strategy == "all_checkpoints" and self._keep is not None:
            deletions += [f"{name}/" for name in self._surplus(folder, self._keep)]
        return self._repository.commit(
            commit_message(folder), files, deletions, self._bandwidth, self._interruption
        )

    def _surplus(self, newest: Path, keep: int) -> list[str]:
        """The checkpoints in the repository, of the same run, that make room for this one."""
        run_id = run_of(newest)
        own = [
            name
            for name in sorted(self._repository.folders(), key=lambda name: step_of(name) or 0)
            if step_of(name) is not None and name != newest.name and self._run_of(name) == run_id
        ]
        best = best_of(newest)
        return [name for name in own[: max(0, len(own) - (keep - 1))] if name != best]

    def _run_of(self, name: str) -> str:
        if name not in self._runs:
            try:
                document = json.loads(self._repository.read(f"{name}/run.json"))
                self._runs[name] = str(document["run_id"])
            except (ValueError, KeyError, TypeError):
                self._runs[name] = ""
        return self._runs[name]

    def delete_old(self, run_id: str) -> None:
        """Nothing: what is not to stay was deleted in the same commit."""

    def advice(self, folder: Path) -> str:
        """The method that pushes the model."""
        return "trainer.push_to_hub(), as far as the model goes"
