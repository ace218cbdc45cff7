"""What is in an MLflow database, read with SQL."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class StoredRun:
    """One run of a database."""

    def __init__(self, rows: sqlite3.Connection, fields: dict[str, Any]) -> None:
        self.run_id: str = fields["run_uuid"]
        self.name: str = fields["name"]
        self.status: str = fields["status"]
        self.experiment_id = str(fields["experiment_id"])
        self.ended = fields["end_time"] is not None
        self.artifacts = Path(unquote(urlsplit(fields["artifact_uri"]).path))
        self.params = dict(self._of(rows, "select key, value from params where run_uuid = ?"))
        self.tags = dict(self._of(rows, "select key, value from tags where run_uuid = ?"))
        self.rows = self._of(
            rows,
            "select key, step, value, is_nan, timestamp from metrics where run_uuid = ? "
            "order by timestamp, step",
        )

    def all_points(self) -> dict[str, list[tuple[int, float]]]:
        """Step and value of each point, by metric."""
        found: dict[str, list[tuple[int, float]]] = {}
        for key, step, value, is_nan, _ in self.rows:
            found.setdefault(key, []).append((step, math.nan if is_nan else value))
        return found

    def files(self) -> dict[str, bytes]:
        """Bytes of its artifacts by path."""
        files = (path for path in self.artifacts.rglob("*") if path.is_file())
        return {str(file.relative_to(self.artifacts)): file.read_bytes() for file in files}

    def _of(self, rows: sqlite3.Connection, question: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in rows.execute(question, (self.run_id,))]


def once(points: dict[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """With an epoch that two logs of a step say once: within a millisecond MLflow keeps one."""
    return {
        name: list(dict.fromkeys(values)) if name.endswith("epoch") else values
        for name, values in points.items()
    }


def stored_runs(database: Path) -> list[StoredRun]:
    """Those of a database, oldest first."""
    with contextlib.closing(sqlite3.connect(database)) as rows:
        rows.row_factory = sqlite3.Row
        found = rows.execute("select * from runs order by start_time").fetchall()
        return [StoredRun(rows, dict(row)) for row in found]
