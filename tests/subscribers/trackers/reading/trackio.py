"""What is in a database of Trackio's, read with SQL."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
STEP = "train/global_step"


class StoredRun:
    """One run of a project."""

    def __init__(self, folder: Path, rows: sqlite3.Connection, run_id: str) -> None:
        self.folder = folder
        self.run_id = run_id
        found = rows.execute(
            "select step, metrics, timestamp, run_name from metrics where run_id = ? order by id",
            (run_id,),
        ).fetchall()
        self.rows = [(row[0], json.loads(row[1]), row[2]) for row in found]
        self.name = {row[3] for row in found}
        configs = rows.execute("select config from configs where run_id = ?", (run_id,)).fetchall()
        (self.config,) = [json.loads(row[0]) for row in configs]
        self.artifacts: dict[str, Any] = {}

    def values(self) -> dict[str, list[tuple[int, Any]]]:
        """Step and value of all that was logged, by name; without the step among the values."""
        found: dict[str, list[tuple[int, Any]]] = {}
        for step, metrics, _ in self.rows:
            assert metrics.pop(STEP, step) == step
            for name, value in metrics.items():
                number = NOT_FINITE.get(value, value) if isinstance(value, str) else value
                found.setdefault(name, []).append((step, number))
        return found

    def all_points(self) -> dict[str, list[tuple[int, float]]]:
        """Step and value of each number, by name."""
        numbers = {
            name: [(step, value) for step, value in points if isinstance(value, int | float)]
            for name, points in self.values().items()
        }
        return {name: points for name, points in numbers.items() if points}


def stored_runs(folder: Path, project: str = "huggingface") -> list[StoredRun]:
    """Those of a project, oldest first."""
    with contextlib.closing(sqlite3.connect(folder / f"{project}.db")) as rows:
        ids = rows.execute("select run_id from metrics group by run_id order by min(id)").fetchall()
        return [StoredRun(folder, rows, run_id) for (run_id,) in ids]
