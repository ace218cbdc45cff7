"""Metrics for people and for files: the printed table, `*_results.json`, `trainer_state.json`."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...schemas import TrainerState
from ...schemas.errors import DataError


class TrainerMetricFiles:
    """`log_metrics`, `save_metrics` and `save_state`, for the `Trainer` to inherit."""

    args: Any
    state: TrainerState
    is_world_process_zero: Callable[[], bool]

    @staticmethod
    def metrics_format(metrics: Mapping[str, Any]) -> dict[str, Any]:
        """The metrics as people read them: times as h:mm:ss, floats to four digits.

        Args:
            metrics: what train, evaluate or predict gave; not changed.
        """
        return {name: _readable(name, value) for name, value in metrics.items()}

    def log_metrics(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Prints the metrics as a table, sorted by name.

        Args:
            split: train, eval, test ...; stands above the table.
            metrics: what train, evaluate or predict gave.
        """
        if not self.is_world_process_zero():
            return
        rows = self.metrics_format(metrics)
        name_width = max((len(str(name)) for name in rows), default=0)
        value_width = max((len(str(value)) for value in rows.values()), default=0)
        print(f"***** {split} metrics *****")
        for name in sorted(rows):
            print(f"  {name: <{name_width}} = {rows[name]:>{value_width}}")

    def save_metrics(self, split: str, metrics: Mapping[str, Any], combined: bool = True) -> None:
        """Writes the metrics, unrounded, to `<split>_results.json` in the output folder.

        Args:
            split: train, eval, test, all ...
            metrics: what train, evaluate or predict gave.
            combined: also add them to `all_results.json`.

        Raises:
            DataError: `all_results.json` is there and cannot be read.
        """
        if not self.is_world_process_zero():
            return
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{split}_results.json", metrics)
        if combined:
            path = folder / "all_results.json"
            _write(path, {**_read(path), **metrics})

    def save_state(self) -> None:
        """Writes the state to `trainer_state.json` in the output folder."""
        if not self.is_world_process_zero():
            return
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.state.save_to_json(folder / "trainer_state.json")


def _readable(name: str, value: Any) -> Any:
    if "_mem_" in name:
        return f"{value >> 20}MB"
    if "_runtime" in name:
        hundredths = int(abs(value - int(value)) * 100)
        return f"{datetime.timedelta(seconds=int(value))}.{hundredths:02d}"
    if name == "total_flos":
        return f"{int(value) >> 30}GF"
    return round(value, 4) if isinstance(value, float) else value


def _write(path: Path, metrics: Mapping[str, Any]) -> None:
    # Encoded first, so that a value that JSON cannot spell leaves the former file as it is.
    path.write_text(json.dumps(dict(metrics), indent=4, sort_keys=True), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path} holds no metrics ({error}): remove it, or pass combined=False."
        ) from error
