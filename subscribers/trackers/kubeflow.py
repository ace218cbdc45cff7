"""Progress of a training, for the Kubeflow TrainJob that it runs in."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import time
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from ...bus.diagnostics import get_logger
from ...bus.shapes import both_shapes
from ...bus.subscriber import on
from ...schemas import Event, Log, RunFailed, StepEnd, TrainBegin, TrainEnd
from ...schemas.errors import DeliveryError, StepbusError
from ..reporter import Tracker

log = get_logger()

URL = "KUBEFLOW_TRAINER_SERVER_URL"
CA_CERT = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
TOKEN = "KUBEFLOW_TRAINER_SERVER_TOKEN"
DISABLED = "DISABLE_KUBEFLOW_INTEGRATION"
TRUE = ("TRUE", "1", "YES", "ON")
EVERY_S = 5.0
"""Between two reports, as in the reference; and how long one may take."""
ALMOST = 99
"""Per cent, until the training has ended."""


class KubeflowCallback(Tracker):
    """Reports progress, time left and the newest metrics to Kubeflow Trainer.

    Within a TrainJob whose controller asks for it (`TrainJobRuntimeStatus`), which sets
    KUBEFLOW_TRAINER_SERVER_URL, _CA_CERT and _TOKEN, it is attached by itself;
    DISABLE_KUBEFLOW_INTEGRATION=TRUE keeps it away. It reports when a training begins, every 5 s,
    and when it ends. A server that does not answer is named once, and tried again at the next
    report, with what is true by then; the training goes on.

    Raises:
        DeliveryError: in `open()`: no address, or the certificate or the token cannot be read.
    """

    tracker_name: ClassVar[str] = "kubeflow"
    set_up_by: ClassVar[str] = f"{URL}, which a Kubeflow TrainJob sets"
    prefers_process: ClassVar[bool] = True

    def __init__(self) -> None:
        self._runs: dict[str, Progress] = {}
        self._opener: urllib.request.OpenerDirector | None = None
        self._silent_until_s = 0.0
        self._fails = False

    def made_with(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    @classmethod
    def is_set_up(cls) -> bool:
        """Within a TrainJob that asks for progress."""
        return bool(os.environ.get(URL))

    @classmethod
    def why_not(cls) -> str:
        """Outside of a TrainJob, and where it is disabled."""
        if os.environ.get(DISABLED, "").upper() in TRUE:
            return f"{DISABLED} is set"
        return "" if os.environ.get(URL) else f"{URL} is not set, as it is in a Kubeflow TrainJob"

    def whereabouts(self) -> dict[str, str]:
        """The server."""
        url = os.environ.get(URL)
        return {"url": url} if url else {}

    def open(self) -> None:
        """Reads the certificate, and sees whether there is a token."""
        if not os.environ.get(URL):
            raise DeliveryError(f"KubeflowCallback: {self.why_not()}.")
        certificate = os.environ.get(CA_CERT) or None
        try:
            secure = ssl.create_default_context(cafile=certificate)
        except OSError as error:
            raise DeliveryError(
                f"KubeflowCallback: {CA_CERT} is {certificate!r}, which cannot be read ({error})."
            ) from error
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=secure), NoRedirects()
        )
        try:
            _token()
        except OSError as error:
            raise DeliveryError(
                f"KubeflowCallback: {TOKEN} is {os.environ.get(TOKEN)!r}, and must be the path of "
                f"a file with a token ({error})."
            ) from error

    @both_shapes
    def on_train_begin(self, event: TrainBegin) -> None:
        """Reports that nothing is done yet, or what an earlier attempt has done."""
        if event.rank == 0:
            progress = self._runs[event.run_id] = Progress(event)
            self._report(progress.status(event.step, event.time), event, force=True)

    @both_shapes
    def on_log(self, event: Log) -> None:
        """Keeps the values for the next report."""
        progress = self._runs.get(event.run_id)
        if progress is not None:
            progress.keep(event.logs)

    @both_shapes
    @on(interval_s=EVERY_S)
    def on_step_end(self, event: StepEnd) -> None:
        """Reports how far it is."""
        progress = self._runs.get(event.run_id)
        if progress is not None:
            with contextlib.suppress(StepbusError):
                progress.max_steps = event.state.max_steps
            progress.epoch = event.epoch
            self._report(progress.status(event.step, event.time), event)

    @both_shapes
    def on_train_end(self, event: TrainEnd) -> None:
        """Reports the closing figures, and that it is done unless it was stopped before."""
        progress = self._runs.pop(event.run_id, None)
        if progress is not None:
            progress.keep(event.metrics)
            progress.epoch = event.epoch
            finished = event.status == "finished"
            self._report(progress.status(event.step, event.time, finished=finished), event, True)

    @both_shapes
    def on_run_failed(self, event: RunFailed) -> None:
        """Reports how far it came."""
        progress = self._runs.pop(event.run_id, None)
        if progress is not None:
            self._report(progress.status(event.step, event.time), event, force=True)

    def _report(self, status: Mapping[str, Any], event: Event, force: bool = False) -> None:
        if self._opener is None or (not force and time.monotonic() < self._silent_until_s):
            return
        url = os.environ[URL]
        at = datetime.fromtimestamp(event.time, UTC).isoformat()
        body = {"trainerStatus": {"lastUpdatedTime": at, **status}}
        try:
            headers = {"Authorization": f"Bearer {_token()}", "Content-Type": "application/json"}
            request = urllib.request.Request(
                url, data=json.dumps(body).encode(), headers=headers, method="POST"
            )
            with self._opener.open(request, timeout=EVERY_S) as answer:
                answer.read()
        except (OSError, ValueError) as error:
            # What is reported later is all that anybody wants to know by then.
            self._silent_until_s = time.monotonic() + EVERY_S
            if not self._fails:
                log.warning(
                    f"Kubeflow takes no progress at {url} ({type(error).__name__}: {error}); it is "
                    f"tried again every {EVERY_S:g} s, and the training goes on."
                )
            self._fails = True
        else:
            if self._fails:
                log.warning("Kubeflow takes progress again.")
            self._fails = False


class Progress:
    """How far one training is."""

    def __init__(self, event: TrainBegin) -> None:
        self.max_steps = event.max_steps
        self.epoch = event.epoch
        self._began_at = (event.step, event.time)
        self._metrics: dict[str, float] = {}

    def keep(self, values: Mapping[str, Any]) -> None:
        """Takes the numbers among logged values."""
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
        self._metrics |= {k: v for k, v in numbers.items() if not isinstance(v, bool)}

    def status(self, step: int, at_s: float, *, finished: bool = False) -> dict[str, Any]:
        """It in Kubeflow's words.

        Args:
            step: where it is.
            at_s: wall time.
            finished: it is done.
        """
        found: dict[str, Any] = {}
        if finished:
            found = {"progressPercentage": 100, "estimatedRemainingSeconds": 0}
        elif self.max_steps > 0:
            found["progressPercentage"] = min(ALMOST, 100 * step // self.max_steps)
            first, began_s = self._began_at
            if step > first:
                # Steps of an earlier attempt took none of this one's time.
                left = (at_s - began_s) / (step - first) * (self.max_steps - step)
                found["estimatedRemainingSeconds"] = max(0, int(left))
        where: dict[str, float] = {"current_step": step}
        if self.max_steps > 0:
            where["total_steps"] = self.max_steps
        where["current_epoch"] = round(self.epoch, 2)
        metrics = {**self._metrics, **where}
        found["metrics"] = [{"name": k, "value": str(v)} for k, v in metrics.items()]
        return found


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes the token nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None: the answer is an error."""


def _token() -> str:
    """Read anew each time, since Kubernetes changes it."""
    return Path(os.environ.get(TOKEN, "")).read_text(encoding="utf-8").strip()
