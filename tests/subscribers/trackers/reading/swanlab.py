"""What SwanLab wrote of a run, read from its files with its own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class OfflineRun:
    """One file of SwanLab's, and the folder that it is in."""

    def __init__(self, file: Path) -> None:
        from swanlab.proto.swanlab.record.v1.record_pb2 import Record
        from swanlab.sdk.internal.core_python.store import DataStoreReader

        self.folder = file.parent
        self.records: list[Any] = []
        reader = DataStoreReader()
        reader.open(file)
        for data in reader:
            record = Record()
            record.ParseFromString(data)
            self.records.append(record)
        reader.close()
        kept = yaml.safe_load((self.folder / "files" / "config.yaml").read_text())
        self.config: dict[str, Any] = {name: entry["value"] for name, entry in kept.items()}

    def of(self, kind: str) -> list[Any]:
        """The records of a kind: start, scalar, media, save, finish."""
        return [getattr(found, kind) for found in self.records if found.HasField(kind)]

    @property
    def run_id(self) -> str:
        (start,) = self.of("start")
        return str(start.id)

    @property
    def state(self) -> str:
        """How it ended; empty where it has no end."""
        from swanlab.proto.swanlab.run.v1.run_pb2 import RunState

        found = self.of("finish")
        return RunState.Name(found[0].state).removeprefix("RUN_STATE_") if found else ""

    def all_points(self) -> dict[str, list[tuple[int, float]]]:
        """Step and value of each point, by name; without what SwanLab measures itself."""
        found: dict[str, list[tuple[int, float]]] = {}
        for scalar in self.of("scalar"):
            if not scalar.key.startswith("__swanlab__"):
                found.setdefault(scalar.key, []).append((scalar.step, scalar.value.number))
        for step, value in found.pop("train/global_step", []):
            assert step == value
        return found


def offline_runs(folder: Path) -> list[OfflineRun]:
    """Those in a folder of logs, oldest first."""
    files = sorted((folder / "swanlog").glob("run-*/*.swanlab"), key=lambda file: file.parent.name)
    return [OfflineRun(file) for file in files]
