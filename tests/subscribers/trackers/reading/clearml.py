"""What is in ClearML's offline sessions."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

SINGLE = -(2**31)
"""The step of a single value."""


class Session:
    """One session, read whole: the archive of one that was closed, the folder of another.

    Args:
        path: it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_closed = path.suffix == ".zip"
        self.about: dict[str, Any] = json.loads(self._read("task.json"))
        self.points: dict[str, list[tuple[int, float]]] = {}
        self.singles: dict[str, float] = {}
        self.lines: list[str] = []
        self.plots: dict[str, tuple[int, Any]] = {}
        for line in self._read("metrics.jsonl").decode().splitlines():
            for event in json.loads(line):
                self._take(event)

    @property
    def task_id(self) -> str:
        return str(self.about["id"])

    def params(self, section: str) -> dict[str, str]:
        """The texts of a section's parameters, by name."""
        found = self.about["hyperparams"].get(section, {})
        return {name: str(item["value"]) for name, item in found.items()}

    def configuration(self, name: str) -> str:
        """The text of a configuration."""
        return str(self.about["configuration"][name]["value"])

    def artifacts(self) -> dict[str, bytes]:
        """Bytes by name."""
        found: dict[str, bytes] = {}
        within = f"{self.about['offline_folder']}/"
        for artifact in self.about["execution"].get("artifacts", []):
            found[artifact["key"]] = self._read(artifact["uri"].removeprefix(within))
        return found

    def _read(self, name: str) -> bytes:
        if not self.is_closed:
            return (self.path / name).read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)

    def _take(self, event: dict[str, Any]) -> None:
        if event["type"] == "log":
            self.lines.append(event["msg"])
        elif event["type"] == "plot":
            self.plots[f"{event['metric']}/{event['variant']}"] = (
                event["iter"],
                json.loads(event["plot_str"]),
            )
        elif event["iter"] == SINGLE:
            self.singles[event["variant"]] = event["value"]
        else:
            name = f"{event['metric']}/{event['variant']}"
            self.points.setdefault(name, []).append((event["iter"], event["value"]))


def sessions(folder: Path) -> list[Session]:
    """Those under a folder, oldest first."""
    found = sorted((folder / "offline").glob("offline-*"), key=lambda path: path.name)
    closed = {path.stem for path in found if path.suffix == ".zip"}
    read = [Session(path) for path in found if path.suffix == ".zip" or path.name not in closed]
    return sorted(read, key=lambda session: (session.path.parent / session.task_id).stat().st_ctime)


def files_of(zipped: bytes) -> dict[str, bytes]:
    """What is in a zip, by path."""
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
