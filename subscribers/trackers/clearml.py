"""Logs to ClearML: its server, or offline sessions that can be imported later."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ...bus.diagnostics import get_logger
from ...bus.sidecar.trainer import trainer_pid
from ...schemas import Artifact, Event, Histogram, Save
from ...schemas.errors import DeliveryError
from .artifact_file import file_of
from .clearml_task import (
    TRUE,
    current_task,
    has_credentials,
    import_clearml,
    is_offline,
    made_task,
    why_offline,
)
from .experiment import ExperimentTracker
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus, flat, plain

log = get_logger()

PROJECT = "HuggingFace Transformers"
TASK = "Trainer"
"""Where nobody names them, as in the reference."""
PARAMETERS = "Transformers"
"""The section of the parameters, as in the reference."""
IN_A_SIDECAR = {"CLEARML_SUPPRESS_UPDATE_MESSAGE": "1"}


class ClearMLCallback(ExperimentTracker):
    """Logs to a task of ClearML: `train/loss` is the series `loss` of `train`, over the step.

    The task is made without ClearML's own set-up of a process: no child is forked, no signal or
    exit handler is installed, no framework is patched, and several runs have a task each. Online,
    an evaluation after the training, another attempt and a replaced process go on with the task; an
    offline session cannot be continued, so that there each of them is a further one. A task that
    the script has open is used, and left open.

    Args:
        project: CLEARML_PROJECT otherwise, and "HuggingFace Transformers" without one.
        task: the task's name; otherwise CLEARML_TASK, else the run's name, else "Trainer".
        tags: labels of the task.
        log_model: uploads each checkpoint as an artifact; otherwise CLEARML_LOG_MODEL, else True
            for a task that it made, as in the reference.
        offline: writes sessions; otherwise CLEARML_OFFLINE_MODE.
        dir: of offline sessions; otherwise CLEARML_CACHE_DIR, else `<output_dir>/clearml`.

    Raises:
        DeliveryError: in `open()`: clearml is not installed, or it is to be online without a key.
    """

    tracker_name: ClassVar[str] = "clearml"
    package: ClassVar[str] = "clearml"
    extra: ClassVar[str] = "clearml"
    set_up_by: ClassVar[str] = "CLEARML_API_ACCESS_KEY, `clearml-init` or CLEARML_OFFLINE_MODE=1"
    needs_login: ClassVar[bool] = True
    modules: ClassVar[tuple[str, ...]] = ("clearml",)

    def __init__(
        self,
        *,
        project: str | None = None,
        task: str | None = None,
        tags: Sequence[str] | None = None,
        log_model: bool | None = None,
        offline: bool | None = None,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002 - as other trackers have it
    ) -> None:
        super().__init__()
        self._arguments: dict[str, Any] = {
            "project": project,
            "task": task,
            "tags": list(tags) if tags is not None else None,
            "log_model": log_model,
            "offline": offline,
            "dir": os.fspath(dir) if dir is not None else None,
        }
        self._task: Any = None
        self._is_ours = False

    def made_with(self) -> dict[str, Any]:
        """Its arguments."""
        return dict(self._arguments)

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, with a key, or told to need none."""
        return cls.is_installed() and (is_offline(None) or has_credentials())

    def why_here(self) -> str:
        """A task that the script has open is in its process alone."""
        why = super().why_here()
        if why or current_task() is None:
            return why
        return "the script has a task of ClearML open."

    def open(self) -> None:
        """Imports clearml, and looks whether it can do what it is to do."""
        if trainer_pid() is not None:
            for name, value in IN_A_SIDECAR.items():
                os.environ.setdefault(name, value)
            # Of a process that is not its child's parent; with it a task would never be closed.
            os.environ.pop("CLEARML_PROC_MASTER_ID", None)
        offline = is_offline(self._arguments["offline"])
        has_task = current_task() is not None
        if self.is_installed() and not (offline or has_task or has_credentials()):
            raise DeliveryError(
                "ClearML has no key: run `clearml-init`, set CLEARML_API_ACCESS_KEY and "
                "CLEARML_API_SECRET_KEY, or have it write sessions that can be imported later, "
                "with CLEARML_OFFLINE_MODE=1 or offline=True."
            )
        try:
            clearml = import_clearml()
        except ImportError as error:
            raise self.not_installed(error) from error
        if offline:
            clearml.Task.set_offline(True)

    def start(self, run: ExperimentRun) -> None:
        """Opens the task that is to go on, makes one, or takes the one that the script has open."""
        own = current_task()
        self._is_ours = own is None
        chosen = self._arguments["log_model"]
        if chosen is None:
            in_env = os.environ.get("CLEARML_LOG_MODEL")
            chosen = in_env.upper() in TRUE if in_env else self._is_ours
        self.uploads = "checkpoint" if chosen else "no"
        self._task = own or self._opened(run)
        folder = self._task.get_offline_mode_folder()
        url = None if folder else self._task.get_output_log_web_page()
        self.found(id=self._task.id, url=url, folder=str(folder) if folder else None)
        if self._is_ours and self._arguments["tags"]:
            self._task.add_tags(self._arguments["tags"])
        if run.model_settings:
            self._task.set_configuration_object(
                name="Model Configuration", config_dict=plain(run.model_settings)
            )
        log.info(f"clearml: {url or f'the task is in {folder}'}")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Puts them into the section `Transformers`, nested ones as `outer/inner`."""
        given = flat(plain(params)).items()
        self._task.update_parameters({f"{PARAMETERS}/{name}": value for name, value in given})

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Reports numbers as scalars; texts, and what is not finite, as lines of the task's log."""
        logger = self._task.get_logger()
        for name, value in metrics.items():
            if isinstance(value, str) or not math.isfinite(value):
                # ClearML reports NaN and infinities as 0.
                self._say(f"{name} at step {step}: {value}")
                continue
            title, _, series = name.partition("/")
            logger.report_scalar(title, series or title, value=float(value), iteration=step)
        self.collected()

    def log_closing(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Reports them as single values, by the names that they have in the reference."""
        for name, value in metrics.items():
            if isinstance(value, str) or not math.isfinite(value):
                self._say(f"{name}: {value}")
            else:
                own = name.removeprefix("train/")
                self._task.get_logger().report_single_value(own, float(value))
        self.collected()

    def log_histogram(self, event: Histogram) -> None:
        """Reports its counts, labelled with the lower edges."""
        title, _, series = event.tag.partition("/")
        self._task.get_logger().report_histogram(
            title,
            series or title,
            values=list(event.counts),
            iteration=event.step,
            xlabels=[f"{edge:.3g}" for edge in event.edges[: len(event.counts)]],
        )
        self.collected()

    def log_artifact(self, event: Artifact) -> None:
        """Uploads its bytes as an artifact `<tag>/step-<step>`; a table is shown as one as well."""
        if event.kind == "table":
            columns, rows = event.read_table()
            title, _, series = event.tag.partition("/")
            self._task.get_logger().report_table(
                title,
                series or title,
                iteration=event.step,
                table_plot=[list(columns), *[list(row) for row in rows]],
            )
        with file_of(event) as file:
            self._upload(f"{event.tag}/step-{event.step}", file, {"step": event.step})
        self.flush()

    def upload_checkpoint(self, folder: Path, event: Save) -> None:
        """Uploads it as an artifact: a zip of the folder, under its name."""
        about = {"step": event.step, "epoch": event.epoch, "best": event.best}
        self._upload(folder.name, folder, about)

    def upload_model(self, folder: Path, event: Event) -> None:
        """Uploads it as an artifact."""
        self._upload(folder.name, folder, {"final": True})

    def flush(self) -> None:
        """Waits until ClearML's own thread has sent, or written, what was reported."""
        self._task.flush(wait_for_uploads=True)

    def finish(self, status: RunStatus) -> None:
        """Closes the task with its status; one of the script's own stays open."""
        task, self._task = self._task, None
        told = {f"stepbus/{name}": text for name, text in status.told().items()}
        task.update_parameters(told)
        task.flush(wait_for_uploads=True)
        if not self._is_ours:
            return
        why = {"status_reason": status.reason or None, "status_message": status.kind, "force": True}
        if status.kind == "finished":
            task.mark_completed(force=True)
        elif status.kind == "stopped":
            task.mark_stopped(force=True, status_message=status.reason or status.kind)
        else:
            task.mark_failed(**why)
        task.close()

    def _opened(self, run: ExperimentRun) -> Any:
        clearml = import_clearml()
        if not clearml.Task.is_offline():
            why = why_offline()
            if why:
                self.say_once(
                    f"ClearML cannot be used ({why}): nothing is delivered to it; the task goes "
                    "on in an offline session, which Task.import_offline_session sends."
                )
                clearml.Task.set_offline(True)
        offline = clearml.Task.is_offline()
        known = run.known.get("id")
        if known and not offline and not known.startswith("offline-"):
            task = clearml.Task.get_task(task_id=known)
            task.mark_started(force=True)
            return task
        given = self._arguments
        task = made_task(
            given["project"] or os.environ.get("CLEARML_PROJECT") or PROJECT,
            given["task"] or os.environ.get("CLEARML_TASK") or run.name or TASK,
            Path(given["dir"]) if given["dir"] else run.output_dir.absolute() / "clearml",
            is_chosen=bool(given["dir"]),
        )
        task.mark_started(force=True)
        about = {"run_id": run.run_id, "group": run.group, "attempt": run.attempt}
        task.update_parameters({f"stepbus/{name}": v for name, v in about.items() if v})
        if known:
            self.say_once(
                f"ClearML: an offline session cannot be continued, so the run goes on in a further "
                f"one, {task.get_offline_mode_folder()}; Task.import_offline_session(..., "
                f"previous_task_id=...) puts it to that of {run.known.get('folder', known)}."
            )
        return task

    def _upload(self, name: str, path: Path, about: Mapping[str, Any]) -> None:
        self.flush()
        taken = self._task.upload_artifact(
            name, artifact_object=str(path), metadata=dict(about), wait_on_upload=True
        )
        if not taken:
            raise DeliveryError(f"ClearML did not take the artifact {name} ({path}).")

    def _say(self, line: str) -> None:
        self._task.get_logger().report_text(line, print_console=False)
