"""Energy and emissions by CodeCarbon: a file in the run's folder, and values on the bus."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...bus.diagnostics import get_logger
from ...bus.shapes import both_shapes
from ...bus.subscriber import on
from ...schemas import (
    Artifact,
    EpochEnd,
    Evaluate,
    Histogram,
    InitEnd,
    Log,
    Measured,
    Predict,
    RunFailed,
    TrainEnd,
)
from ...schemas.errors import ArgumentError, StepbusError
from .codecarbon_meter import MODES, Meter, MeterSettings, check_mode
from .experiment import ExperimentTracker
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus

log = get_logger()

CONFIG = ".codecarbon.config"
SOON_S = 0.25
"""At the end of an epoch, what is older than this is measured anew."""


class CodeCarbonCallback(ExperimentTracker):
    """Measures the energy that a run takes, and what it emits, with CodeCarbon.

    From the beginning of a training, or of an evaluation or prediction outside of one, to its end;
    each is a row of `emissions.csv` in the run's folder, kept up to date while it goes on. What the
    run has taken so far, earlier sessions and attempts among it, stands in the run's next log as
    `energy_kwh`, `cpu_energy_kwh`, `gpu_energy_kwh`, `ram_energy_kwh` and `emissions_kg`: all other
    trackers have it, and so do the closing figures.

    What no argument says is taken from CODECARBON_ variables and `.codecarbon.config`. With a
    country nothing is looked up on the network. Without one, and without a network that tells where
    the machine is, emissions are those of the world's average, and that is said.

    Args:
        project_name: in the file; otherwise the run's name.
        country_iso_code: three letters, "FRA".
        region: within the USA or Canada, "california".
        cloud_provider: of whose data centre, in place of a country; with `cloud_region`.
        cloud_region: its name for where that is.
        offline: True looks nothing up on the network, False does whatever else is set.
        tracking_mode: "machine", or "process" for the training with its children: workers of data
            loaders, and the process that the trackers are in.
        measure_power_secs: how often power is measured, and values are logged, s; by default 15.
        gpu_ids: which GPUs; by default those of CUDA_VISIBLE_DEVICES, else all.
        log_level: of CodeCarbon's own messages; by default only errors.

    Raises:
        ArgumentError: tracking_mode or measure_power_secs is no such value.
        DeliveryError: in `open()`: codecarbon is not installed.
    """

    tracker_name: ClassVar[str] = "codecarbon"
    package: ClassVar[str] = "codecarbon"
    extra: ClassVar[str] = "codecarbon"
    set_up_by: ClassVar[str] = f"a CODECARBON_ variable or {CONFIG}"

    def __init__(
        self,
        *,
        project_name: str | None = None,
        country_iso_code: str | None = None,
        region: str | None = None,
        cloud_provider: str | None = None,
        cloud_region: str | None = None,
        offline: bool | None = None,
        tracking_mode: Literal["machine", "process"] | None = None,
        measure_power_secs: float | None = None,
        gpu_ids: Sequence[int | str] | None = None,
        log_level: str | None = None,
    ) -> None:
        super().__init__()
        if tracking_mode is not None:
            check_mode(tracking_mode, "tracking_mode")
        if measure_power_secs is not None and not measure_power_secs > 0:
            raise ArgumentError(f"measure_power_secs is {measure_power_secs!r}: give seconds.")
        self._arguments: dict[str, Any] = {
            "project_name": project_name,
            "country_iso_code": country_iso_code,
            "region": region,
            "cloud_provider": cloud_provider,
            "cloud_region": cloud_region,
            "offline": offline,
            "tracking_mode": tracking_mode,
            "measure_power_secs": measure_power_secs,
            "gpu_ids": list(gpu_ids) if gpu_ids is not None else None,
            "log_level": log_level,
        }
        self._settings: MeterSettings
        self._meter: Meter | None = None

    def made_with(self) -> dict[str, Any]:
        """Its arguments."""
        return dict(self._arguments)

    def check(self, args: object) -> None:
        """Refuses settings that there are not.

        Raises:
            ArgumentError: CODECARBON_TRACKING_MODE is none of its values.
        """
        check_mode(os.environ.get("CODECARBON_TRACKING_MODE", MODES[0]), "CODECARBON_TRACKING_MODE")

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, and configured in any way."""
        named = any(name.lower().startswith("codecarbon_") for name in os.environ)
        with contextlib.suppress(RuntimeError, OSError):
            named = named or (Path.home() / CONFIG).exists() or Path(CONFIG).exists()
        return cls.is_installed() and named

    def open(self) -> None:
        """Imports CodeCarbon, and has it find out what hardware there is."""
        try:
            self._settings = MeterSettings(self._arguments)
        except ImportError as error:
            raise self.not_installed(error) from error
        self._settings.probe()

    # Which run

    @both_shapes
    def on_init_end(self, event: InitEnd) -> None:
        """Begins to measure."""
        super().on_init_end(event)
        into = self._into(event)
        if into is not None and into._meter is None and into.run is not None:
            into._begin_to_measure(into.run)

    def start(self, run: ExperimentRun) -> None:
        """Begins to measure."""
        self._begin_to_measure(run)

    def _begin_to_measure(self, run: ExperimentRun) -> None:
        self._meter = Meter(self._settings, run, self.say_once)
        self.found(id=self._meter.row_id, folder=str(self._meter.folder))

    # What it gives to the run's next log

    @both_shapes
    @on(interval_s=1.0)
    def on_log(self, event: Log) -> Measured | None:
        """Measures, where that was some time ago."""
        return self._measured(event, self._settings.every_s)

    @both_shapes
    def on_epoch_end(self, event: EpochEnd) -> Measured | None:
        """Measures; the end of the last epoch comes before the closing figures."""
        try:
            is_last = event.step >= event.state.max_steps
        except StepbusError:
            is_last = True
        return self._measured(event, 0.0 if is_last else SOON_S)

    def _measured(self, event: Log | EpochEnd, after_s: float) -> Measured | None:
        into = self._of(event.run_id)
        if into is None or into._meter is None or not into._training:
            return None
        values = into._meter.read(after_s)
        return Measured(values) if values else None

    # How it ends

    @both_shapes
    def on_evaluate(self, event: Evaluate) -> None:
        """Ends what was measured of an evaluation outside of a training."""
        self._end_session(event)

    @both_shapes
    def on_predict(self, event: Predict) -> None:
        """Ends what was measured of a prediction outside of a training."""
        self._end_session(event)

    def _end_session(self, event: Evaluate | Predict) -> None:
        into = self._of(event.run_id)
        if into is not None and not into._training:
            into._end_measuring()

    def _end(self, event: TrainEnd | RunFailed) -> None:
        super()._end(event)
        self._end_measuring()

    def finish(self, status: RunStatus) -> None:
        """Ends what is being measured."""
        self._end_measuring()

    def _end_measuring(self) -> None:
        meter, self._meter = self._meter, None
        if meter is None:
            return
        meter.stop()
        figures = meter.newest.figures
        if figures is None:
            self.say_once(
                "CodeCarbon has measured nothing: CODECARBON_LOG_LEVEL=warning has it say why."
            )
        else:
            log.info(
                f"codecarbon: {figures.energy_consumed:.3g} kWh, {figures.emissions:.3g} kg of CO2 "
                f"equivalents; {meter.folder} has them"
            )

    # What it takes nothing of

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Nothing is done with them."""

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Nothing is done with them."""

    @both_shapes
    def on_histogram(self, event: Histogram) -> None:
        """Nothing is done with it."""

    @both_shapes
    def on_artifact(self, event: Artifact) -> None:
        """Nothing is done with it."""
