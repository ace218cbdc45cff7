"""What is in wandb's offline files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32_768
FULL, LAST = 1, 4


class Artifact:
    """A logged artifact, and its files as `wandb sync` would send them."""

    def __init__(self, record: Any) -> None:
        self.name: str = record.name
        self.aliases = set(record.aliases)
        self._contents = list(record.manifest.contents)

    def files(self) -> dict[str, bytes]:
        """Bytes by path."""
        return {entry.path: Path(entry.local_path).read_bytes() for entry in self._contents}

    def local_paths(self) -> list[str]:
        """Where they wait to be sent."""
        return [entry.local_path for entry in self._contents]


class OfflineRun:
    """One folder `offline-run-<date>-<id>`, read whole.

    Args:
        folder: it.
    """

    def __init__(self, folder: Path) -> None:
        from wandb.proto import wandb_internal_pb2

        messages: Any = wandb_internal_pb2
        (file,) = folder.glob("run-*.wandb")
        self.folder = folder
        self.run_id = self.project = self.name = self.group = ""
        self.tags: list[str] = []
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.artifacts: list[Artifact] = []
        self.exit_code: int | None = None
        for text in _records(file):
            record = messages.Record()
            record.ParseFromString(text)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = record.run
                self.run_id, self.project, self.name = run.run_id, run.project, run.display_name
                self.group, self.tags = run.run_group, list(run.tags)
                self._configure(run.config)
            elif kind == "config":
                self._configure(record.config)
            elif kind == "history":
                self.history.append(_values(record.history.item))
            elif kind == "summary":
                self.summary.update(_values(record.summary.update))
            elif kind == "artifact":
                self.artifacts.append(Artifact(record.artifact))
            elif kind == "request" and record.request.HasField("log_artifact"):
                self.artifacts.append(Artifact(record.request.log_artifact.artifact))
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    def points(self, name: str) -> list[tuple[int, float]]:
        """Step and value of each point of a metric."""
        return [(row["train/global_step"], row[name]) for row in self.history if name in row]

    def all_points(self) -> dict[str, list[tuple[int, float]]]:
        """Those of all metrics."""
        names = {name for row in self.history for name in row}
        own = {name for name in names if name.startswith("_") or name == "train/global_step"}
        return {name: self.points(name) for name in names - own}

    def media(self) -> dict[str, list[tuple[int, dict[str, Any]]]]:
        """Step and description of each text, image or table, by the name that it was logged as."""
        found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for row in self.history:
            for tag in [name.removesuffix("/_type") for name in row if name.endswith("/_type")]:
                of_it = {k.removeprefix(f"{tag}/"): v for k, v in row.items() if k.startswith(tag)}
                found.setdefault(tag, []).append((row["train/global_step"], of_it))
        return found

    def _configure(self, config: Any) -> None:
        for item in config.update:
            inner = self.config
            *path, last = [item.key] if item.key else list(item.nested_key)
            for name in path:
                inner = inner.setdefault(name, {})
            inner[last] = json.loads(item.value_json)


def offline_runs(output_dir: Path) -> list[OfflineRun]:
    """Those under an output folder, oldest first."""
    folders = sorted((output_dir / "wandb").glob("offline-run-*"))
    return [OfflineRun(folder) for folder in folders]


def run_files(output_dir: Path) -> list[OfflineRun]:
    """Those of runs that were online, which have the same file."""
    return [OfflineRun(folder) for folder in sorted((output_dir / "wandb").glob("run-*"))]


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(file: Path) -> Iterator[bytes]:
    """The records of a LevelDB log behind wandb's own header of seven bytes."""
    raw = file.read_bytes()
    assert raw[:4] == b":W&B", f"{file} is no file of wandb"
    at, record = 7, b""
    while at + 7 <= len(raw):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", raw[at : at + 7])
        if kind == 0:
            return
        record += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (FULL, LAST):
            yield record
            record = b""
