"""What DVCLive wrote of a run, read from its text files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any


class FolderRun:
    """One run: a folder of DVCLive's."""

    def __init__(self, folder: Path) -> None:
        from dvclive import serialize

        self.folder = folder
        load: Any = serialize.load_yaml
        self.params: dict[str, Any] = load(folder / "params.yaml")
        self.summary: dict[str, Any] = json.loads((folder / "metrics.json").read_text())

    def all_points(self) -> dict[str, list[tuple[int, float]]]:
        """Step and value of each point, by metric."""
        root = self.folder / "plots" / "metrics"
        found: dict[str, list[tuple[int, float]]] = {}
        for path in root.rglob("*.tsv"):
            name = path.relative_to(root).with_suffix("")
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
            found[name.as_posix()] = [(int(row["step"]), float(row[name.name])) for row in rows]
        return found

    def files(self, *of: str) -> dict[str, bytes]:
        """Bytes of the files in a folder of it, by path."""
        return self.files_in(self.folder.joinpath(*of))

    @staticmethod
    def files_in(root: Path) -> dict[str, bytes]:
        """Bytes of the files in a folder, by path."""
        files = (path for path in root.rglob("*") if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
