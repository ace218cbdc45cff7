"""CodeCarbon's tracker for one session of a run: how it is set, what it has measured."""

from __future__ import annotations

import contextlib
import csv
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from ...bus.sidecar.trainer import trainer_pid
from ...schemas.errors import ArgumentError, DeliveryError
from .experiment_run import ExperimentRun

FILE = "emissions.csv"
MODES = ("machine", "process")
EVERY_S = 15.0
"""CodeCarbon's own interval between two measurements."""
PLACES = ("country_iso_code", "region", "cloud_provider", "cloud_region")
NAMES = {
    "energy_kwh": "energy_consumed",
    "cpu_energy_kwh": "cpu_energy",
    "gpu_energy_kwh": "gpu_energy",
    "ram_energy_kwh": "ram_energy",
    "emissions_kg": "emissions",
}
"""What is logged, and CodeCarbon's names of it; emissions are kg of CO2 equivalents."""
UNKNOWN_PLACE = ("CAN", 46.8, -71.2)
"""Where CodeCarbon takes a machine to be whose address it could not look up: Quebec, which has next
to no emissions."""


def check_mode(mode: str, source: str) -> None:
    """Refuses what is neither machine nor process.

    Raises:
        ArgumentError: names the value, and the setting that it comes from.
    """
    if mode not in MODES:
        raise ArgumentError(f"{source} is {mode!r}: it must be 'machine' or 'process'.")


class MeterSettings:
    """What CodeCarbon is given: arguments, then the environment and its files, then our defaults.

    Args:
        arguments: by CodeCarbon's names; None where nothing is said. `offline` is our own.

    Raises:
        ImportError: codecarbon is not installed.
        ArgumentError: tracking_mode is neither of its values.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        from codecarbon.core import config

        if arguments["log_level"] is None and "codecarbon_log_level" not in map(
            str.lower, os.environ
        ):
            # Reading the configuration is what it would tell of first.
            logging.getLogger("codecarbon").setLevel(logging.ERROR)
        self._arguments = arguments
        self.config: Mapping[str, str] = cast(Any, config).get_hierarchical_config()
        check_mode(self.mode, "tracking_mode")

    @property
    def mode(self) -> str:
        """What is measured: machine or process."""
        return str(self._chosen("tracking_mode") or "machine")

    @property
    def every_s(self) -> float:
        """Seconds between two measurements."""
        try:
            return float(self._chosen("measure_power_secs") or EVERY_S)
        except ValueError:
            return EVERY_S

    @property
    def by_server(self) -> bool:
        """Whether CodeCarbon's server takes what is measured, and names it."""
        methods = self.config.get("output_methods", "").split(",")
        to_api = self.config.get("save_to_api", "").lower() == "true"
        return to_api or "api" in [method.strip() for method in methods]

    def given(self) -> dict[str, Any]:
        """What CodeCarbon's constructor is given; the rest it finds in the configuration."""
        ours = {"log_level": "error", "allow_multiple_runs": True, "on_csv_write": "update"}
        found: dict[str, Any] = {k: v for k, v in ours.items() if k not in self.config}
        names = ("tracking_mode", "measure_power_secs", "gpu_ids", "log_level", "project_name")
        given = {name: self._arguments[name] for name in names}
        return found | {name: value for name, value in given.items() if value is not None}

    def place(self, say: Callable[[str], None]) -> dict[str, Any] | None:
        """Where the machine is, for a tracker that looks nothing up; None for one that does.

        Args:
            say: is told that it cannot be looked up.
        """
        given = {name: self._arguments[name] for name in PLACES if self._arguments[name]}
        offline = self._arguments["offline"]
        if offline is not None:
            return given if offline else None
        if self._chosen("country_iso_code") or self._chosen("cloud_provider"):
            return given
        from codecarbon import input as static_data
        from codecarbon.external.geography import GeoMetadata

        found = GeoMetadata.from_geo_js(cast(Any, static_data).DataSource().geo_js_url)
        if (found.country_iso_code, found.latitude, found.longitude) != UNKNOWN_PLACE:
            return None
        say(
            "CodeCarbon could not look up which country this machine is in: emissions are those of "
            "the world's average. Set CODECARBON_COUNTRY_ISO_CODE, to FRA for one."
        )
        return given

    def _chosen(self, name: str) -> Any:
        given = self._arguments[name]
        return given if given is not None else self.config.get(name)

    def probe(self) -> None:
        """Has CodeCarbon find out what hardware there is, which it then knows."""
        import codecarbon

        meter = codecarbon.OfflineEmissionsTracker(
            **self.given(), country_iso_code="FRA", output_methods=[]
        )
        meter.get_detected_hardware()


class Meter:
    """Measures from when it is made until `stop`.

    Args:
        settings: what CodeCarbon is given.
        run: whose session is measured.
        say: is told what is worth a line.

    Raises:
        DeliveryError: this CodeCarbon cannot measure another process.
    """

    def __init__(
        self, settings: MeterSettings, run: ExperimentRun, say: Callable[[str], None]
    ) -> None:
        import codecarbon

        config = settings.config
        self.folder = Path(config.get("output_dir") or run.output_dir).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.newest = Newest()
        given = settings.given() | {
            "output_dir": str(self.folder),
            "output_handlers": [self.newest],
        }
        if run.name and "project_name" not in config:
            given.setdefault("project_name", run.name)
        place = settings.place(say)
        kind: Any = (
            codecarbon.EmissionsTracker if place is None else codecarbon.OfflineEmissionsTracker
        )
        self._tracker = kind(**given, **(place or {}))
        self._before: dict[str, float] = {}
        if not settings.by_server:
            file = self.folder / config.get("output_file", FILE)
            rows = _rows_of(file, run.run_id)
            self._before = {name: _sum(rows, theirs) for name, theirs in NAMES.items()}
            self._tracker.run_id = f"{run.run_id}-{len(rows) + 1}"
        self.row_id = str(self._tracker.run_id)
        """Of its row in the file: the run's id, and which of its sessions it is."""
        self._tracker.get_detected_hardware()
        if settings.mode == "process":
            _look_at_trainer(self._tracker)
        self._tracker.start()
        self._read_s: float | None = None

    def read(self, after_s: float) -> dict[str, float]:
        """What the run has taken so far, by the names that it is logged under, once the file has
        it too; empty where it was read less than so many seconds ago, or there is nothing yet."""
        now = time.monotonic()
        if self._read_s is not None and now - self._read_s < after_s:
            return {}
        self._read_s = now
        self._tracker.flush()
        figures = self.newest.figures
        if figures is None:
            return {}
        return {k: getattr(figures, v) + self._before.get(k, 0.0) for k, v in NAMES.items()}

    def stop(self) -> None:
        """Ends it; its row is complete."""
        self._tracker.stop()


class Newest:
    """Keeps the figures that CodeCarbon hands to those who write them down."""

    def __init__(self) -> None:
        self.figures: Any = None
        """Its `EmissionsData`; None before the first."""

    def out(self, total: Any, delta: Any) -> None:
        """Takes them when they are asked for."""
        self.figures = total

    def live_out(self, total: Any, delta: Any) -> None:
        """Those between are not kept."""

    def task_out(self, data: Any, experiment_name: str) -> None:
        """There are no tasks."""

    def exit(self) -> None:
        """Nothing is open."""


def _rows_of(file: Path, run_id: str) -> list[dict[str, str]]:
    """The rows of a run's earlier sessions."""
    rows: list[dict[str, str]] = []
    with (
        contextlib.suppress(OSError, csv.Error, UnicodeDecodeError),
        file.open(newline="", encoding="utf-8") as opened,
    ):
        rows = list(csv.DictReader(opened))
    return [row for row in rows if str(row.get("run_id")).rpartition("-")[0] == run_id]


def _sum(rows: list[dict[str, str]], name: str) -> float:
    found = 0.0
    for row in rows:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            found += float(row[name])
    return found


def _look_at_trainer(tracker: Any) -> None:
    """Has the process of the training measured, where this is another one."""
    trainer = trainer_pid()
    if trainer is None:
        return
    import psutil  # type: ignore[import-untyped]

    parts = [part for part in getattr(tracker, "_hardware", ()) if hasattr(part, "_pid")]
    if not parts:
        raise DeliveryError(
            "This version of CodeCarbon cannot measure another process: subscribe it with "
            "delivery='thread', or with tracking_mode='machine'."
        )
    for part in parts:
        part._pid = trainer
        if hasattr(part, "_process"):
            part._process = psutil.Process(trainer)
