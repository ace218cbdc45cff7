"""`dvclive.Live` for a folder alone: it leaves the repository around it as it is."""

from __future__ import annotations

from dvclive.live import Live


class FolderLive(Live):
    """Writes parameters, metrics and plots into its folder, and does nothing else.

    dvclive's own looks for a repository from the working directory upwards, makes a Git repository
    one of DVC where it is none, and tells DVC Studio where there is a token for it.
    """

    def _init_dvc(self) -> None:
        self._dvc_file = self._init_dvc_file()

    def _init_studio(self) -> None:
        self._studio_events_to_skip.update(("start", "data", "done"))
