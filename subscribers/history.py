"""The log rows of a run as a file: CSV for tables, JSON lines for programs."""

from __future__ import annotations

import csv
import json
import os
import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..schemas import Log, TrainBegin
from .reporter import Reporter

FIRST_COLUMNS = ("step", "epoch", "attempt", "time")


class History(Reporter):
    """Appends logs to one file of the run, over all its attempts.

    When a run is resumed, rows beyond the step that it resumes from are dropped: it takes those
    steps again. A run that begins anew in the same folder keeps the former file beside its own,
    as `history.previous.csv`. Each row is on its way to disk as soon as it is written. Only the
    first process writes.

    Args:
        path: the file; `<output_dir>/history.<suffix>` where None.
    """

    suffix = ""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else None
        """The file; known once a run has begun."""
        self._fixed = path is not None
        self._file: TextIO | None = None
        self._early: list[Log] = []

    def made_with(self) -> dict[str, Any]:
        """The file that was asked for."""
        return {"path": str(self.path) if self._fixed else None}

    def on_train_begin(self, event: TrainBegin) -> None:
        """Opens the file, and drops the rows that this attempt supersedes."""
        if event.rank != 0:
            return
        self.close()
        if not self._fixed or self.path is None:
            self.path = Path(event.output_dir) / f"history.{self.suffix}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        resumed = event.again or event.attempt > 1 or event.resumed_from is not None
        if self.path.exists() and not resumed:
            self.path.replace(self.path.with_suffix(f".previous{self.path.suffix}"))
        self._file = self._reopen(self.path, sys.maxsize if event.again else event.step)
        early, self._early = self._early, []
        for log in early:
            self._append(self._file, log)

    def on_log(self, event: Log) -> None:
        """Appends a row."""
        if event.rank != 0:
            return
        if self._file is None:
            self._early.append(event)
        else:
            self._append(self._file, event)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @abstractmethod
    def _reopen(self, path: Path, last_step: int) -> TextIO:
        """Keeps the rows up to a step and opens the file for more."""

    @abstractmethod
    def _append(self, file: TextIO, event: Log) -> None:
        """Writes one row."""


class CSVHistory(History):
    """`history.csv`: a row for each log, a column for each name; `pandas.read_csv` loads it.

    The columns `step`, `epoch`, `attempt` and `time` (wall time, seconds since 1970) come first. A
    name that appears later becomes a column of the whole file, which is then replaced in one go;
    cells without a value are empty, NaN is `nan`.
    """

    suffix = "csv"

    _columns: list[str]
    """Those of the file that is open."""

    def _reopen(self, path: Path, last_step: int) -> TextIO:
        rows = [row for row in _read_csv(path) if _step_of(row) <= last_step]
        self._columns = list(dict.fromkeys([*FIRST_COLUMNS, *(n for row in rows for n in row)]))
        return self._rewrite(path, rows)

    def _rewrite(self, path: Path, rows: Iterable[dict[str, Any]]) -> TextIO:
        aside = path.with_name(f".{path.name}.new")
        file = aside.open("w", encoding="utf-8", newline="", buffering=1)
        writer = csv.DictWriter(file, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file.flush()
        aside.replace(path)
        return file

    def _append(self, file: TextIO, event: Log) -> None:
        header = {"step": event.step, "epoch": event.epoch, "attempt": event.attempt}
        row = {**header, "time": event.time, **event.logs}
        new = [name for name in row if name not in self._columns]
        if new and self.path is not None:
            file.close()
            self._columns += new
            file = self._file = self._rewrite(self.path, _read_csv(self.path))
        csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)


class JSONLHistory(History):
    """`history.jsonl`: each log event as one line of JSON, read back with `parse_event`."""

    suffix = "jsonl"

    def _reopen(self, path: Path, last_step: int) -> TextIO:
        aside = path.with_name(f".{path.name}.new")
        file = aside.open("w", encoding="utf-8", buffering=1)
        file.writelines(line for step, line in _read_lines(path) if step <= last_step)
        file.flush()
        aside.replace(path)
        return file

    def _append(self, file: TextIO, event: Log) -> None:
        file.write(event.to_json().decode("utf-8") + "\n")


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that may be missing or end in the middle of one."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if None not in row and None not in row.values() and row.get("step", "").isdigit():
                yield row


def _step_of(row: dict[str, Any]) -> int:
    return int(row["step"])


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that may be missing or end in the middle of one, with their steps."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield int(json.loads(line)["step"]), line.rstrip("\n") + "\n"
            except (ValueError, KeyError, TypeError):
                continue
