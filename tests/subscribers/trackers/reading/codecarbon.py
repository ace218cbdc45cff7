"""What CodeCarbon has written of a run, and trackers that tell of themselves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

from stepbus import CodeCarbonCallback


class Row(NamedTuple):
    """A row of `emissions.csv`, by the names under which its values are logged."""

    run_id: str
    project: str
    country: str
    mode: str
    values: dict[str, float]


def rows_of(folder: Path) -> list[Row]:
    """The rows of the file in a folder."""
    with (folder / "emissions.csv").open(newline="", encoding="utf-8") as file:
        return [
            Row(
                row["run_id"],
                row["project_name"],
                row["country_iso_code"],
                row["tracking_mode"],
                {
                    "energy_kwh": float(row["energy_consumed"]),
                    "cpu_energy_kwh": float(row["cpu_energy"]),
                    "gpu_energy_kwh": float(row["gpu_energy"]),
                    "ram_energy_kwh": float(row["ram_energy"]),
                    "emissions_kg": float(row["emissions"]),
                },
            )
            for row in csv.DictReader(file)
        ]


class TellsWhom(CodeCarbonCallback):
    """Tells which processes it measures, and which it is in."""

    def whereabouts(self) -> dict[str, str]:
        parts: Any = getattr(getattr(self._meter, "_tracker", None), "_hardware", ())
        pids = {part._pid for part in parts if hasattr(part, "_pid")}
        pids |= {part._process.pid for part in parts if hasattr(part, "_process")}
        told = super().whereabouts()
        return told | ({"pids": " ".join(map(str, pids))} if pids else {})


class InThread(CodeCarbonCallback):
    """In the process of the test."""

    delivery = "thread"
