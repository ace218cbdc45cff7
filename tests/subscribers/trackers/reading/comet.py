"""What is in Comet's offline archives."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any


class Archive:
    """One archive, read whole.

    Args:
        path: of the zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.params: dict[str, Any] = {}
        self.points: dict[str, list[tuple[int, float]]] = {}
        self.epochs: dict[str, list[float]] = {}
        self.others: dict[str, Any] = {}
        self.assets: dict[str, bytes] = {}
        self.details: dict[str, dict[str, Any]] = {}
        with zipfile.ZipFile(path) as archive:
            self.about: dict[str, Any] = json.loads(archive.read("experiment.json"))
            for line in archive.read("messages.json").decode().splitlines():
                message = json.loads(line)
                self._take(message["type"], message["payload"], archive)

    @property
    def key(self) -> str:
        return str(self.about["offline_id"])

    def _take(self, kind: str, payload: dict[str, Any], archive: zipfile.ZipFile) -> None:
        if kind == "metric_msg":
            metric = payload["metric"]
            name = metric["metricName"]
            if name.startswith("sys.") or name == "process duration":
                return  # Comet's own.
            point = (metric["step"], float(metric["metricValue"]))
            self.points.setdefault(name, []).append(point)
            self.epochs.setdefault(name, []).append(metric["epoch"])
        elif kind == "parameter_msg":
            given = payload.get("param") or payload["params"]
            if given["paramName"] not in ("curr_step", "curr_epoch"):  # Comet's own.
                self.params[given["paramName"]] = given["paramValue"]
        elif kind == "log_other":
            self.others[payload["key"]] = payload["value"]
        elif kind == "file_upload":
            details = payload["additional_params"]
            name = details.get("fileName") or details.get("figName")
            if name == "auto-generated-in-the-backend":
                name = payload["metadata"]["tag"]
            self.assets[name] = archive.read(payload["file_path"])
            self.details[name] = {**details, "type": payload["upload_type"]}


def archives(folder: Path) -> list[Archive]:
    """Those of a folder, oldest first."""
    found = [Archive(path) for path in folder.glob("*.zip")]
    return sorted(found, key=lambda archive: int(archive.about["start_time"]))
