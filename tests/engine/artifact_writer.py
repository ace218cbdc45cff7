"""A subscriber for another process, which writes down what it got: it imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepbus import Artifact, Subscriber


class ArtifactWriter(Subscriber):
    """Writes the JSON of each artifact as it arrived, a line each, and its bytes beside."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def made_with(self) -> Mapping[str, Any]:
        return {"folder": str(self.folder)}

    def on_artifact(self, event: Artifact) -> None:
        (self.folder / f"{event.seq}.bytes").write_bytes(event.read())
        with (self.folder / "lines").open("ab") as file:
            file.write(event.to_json() + b"\n")
