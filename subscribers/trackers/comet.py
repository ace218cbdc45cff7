"""Logs to Comet: its server, or archives that can be uploaded later."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...bus.diagnostics import get_logger
from ...bus.sidecar.trainer import trainer_pid
from ...schemas import Artifact, Histogram, Save
from ...schemas.errors import ArgumentError, DeliveryError
from .artifact_file import file_name, file_of
from .comet_archive import Files, rescue
from .comet_client import (
    TRUE,
    has_key,
    import_comet,
    nothing_captured,
    online_in_environment,
    running_experiment,
    start_experiment,
    why_offline,
)
from .experiment import ExperimentTracker
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus, flat, plain
from .known_runs import FOLDER

log = get_logger()

MODES = ("get_or_create", "get", "create")
MAX_VALUE = 1_000
"""Characters that Comet keeps of a parameter."""
IN_A_SIDECAR = {
    "COMET_LOGGING_CONSOLE": "ERROR",
    "COMET_TIMEOUT_CLEANING": "20",
    "COMET_TIMEOUT_UPLOAD": "20",
}
"""Where the environment does not say otherwise: at the end Comet itself waits for hours."""


class CometCallback(ExperimentTracker):
    """Logs to an experiment of Comet: names as `train/loss`, with step and epoch.

    The experiment's key is made from stepbus's id of the run, so that an evaluation after the
    training, another attempt and a replaced process go on with it. Offline each of them is a
    further archive of the same experiment in `<output_dir>/comet`, which `comet upload` puts
    together. Comet's own capture of frameworks, code, command line and output is off: in the
    sidecar it would be that of another program. An experiment that the script has open is used, and
    left open.

    Args:
        project_name: COMET_PROJECT_NAME otherwise.
        workspace: COMET_WORKSPACE otherwise.
        name: the experiment's name; by default `run_name`, or that of its trial.
        tags: labels of the experiment.
        experiment_key: the experiment to go on with; COMET_EXPERIMENT_KEY otherwise.
        mode: "get_or_create", "get" or "create"; otherwise COMET_MODE or COMET_START_MODE. A trial
            of a search is always an experiment of its own.
        online: False writes archives; otherwise COMET_START_ONLINE, else True.
        offline_directory: of the archives; COMET_OFFLINE_DIRECTORY otherwise, else
            `<output_dir>/comet`.
        log_assets: uploads each checkpoint's files; otherwise COMET_LOG_ASSETS.

    Raises:
        ArgumentError: there is no such mode, or "get" has no key.
        DeliveryError: in `open()`: comet_ml is not installed, or it is to be online without a key.
    """

    tracker_name: ClassVar[str] = "comet_ml"
    package: ClassVar[str] = "comet_ml"
    extra: ClassVar[str] = "comet"
    set_up_by: ClassVar[str] = "COMET_API_KEY, `comet login` or COMET_START_ONLINE=0"
    needs_login: ClassVar[bool] = True
    modules: ClassVar[tuple[str, ...]] = ("comet_ml",)

    def __init__(
        self,
        *,
        project_name: str | None = None,
        workspace: str | None = None,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        experiment_key: str | None = None,
        mode: Literal["get_or_create", "get", "create"] | None = None,
        online: bool | None = None,
        offline_directory: str | os.PathLike[str] | None = None,
        log_assets: bool | None = None,
    ) -> None:
        super().__init__()
        self._arguments: dict[str, Any] = {
            "project_name": project_name,
            "workspace": workspace,
            "name": name,
            "tags": list(tags) if tags is not None else None,
            "experiment_key": experiment_key,
            "mode": mode,
            "online": online,
            "offline_directory": os.fspath(offline_directory) if offline_directory else None,
            "log_assets": log_assets,
        }
        _checked_mode(mode, "mode")
        self._experiment: Any = None
        self._is_ours = False
        self._online = True
        self._files: Files | None = None

    def made_with(self) -> dict[str, Any]:
        """Its arguments."""
        return dict(self._arguments)

    def check(self, args: object) -> None:
        """Refuses settings that there are not.

        Raises:
            ArgumentError: COMET_MODE is none of its values, or needs a key.
        """
        if self._mode() == "get" and not self._key_given():
            raise ArgumentError(
                "Comet's mode is 'get' and there is no experiment to get: set COMET_EXPERIMENT_KEY "
                "or experiment_key, or choose the mode 'get_or_create'."
            )

    @classmethod
    def why_not(cls) -> str:
        """COMET_MODE=DISABLED is obeyed."""
        disabled = os.environ.get("COMET_MODE", "").upper() == "DISABLED"
        return "COMET_MODE is DISABLED" if disabled else ""

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, with a key, or told to need none."""
        if not cls.is_installed():
            return False
        return online_in_environment() is False or has_key()

    def why_here(self) -> str:
        """An experiment that the script has open is in its process alone."""
        why = super().why_here()
        if why or running_experiment() is None:
            return why
        return "the script has an experiment of Comet open."

    def open(self) -> None:
        """Imports comet_ml, and looks whether it can do what it is to do."""
        if trainer_pid() is not None:
            for name, value in IN_A_SIDECAR.items():
                os.environ.setdefault(name, value)
        self.uploads = "checkpoint" if self._is_on("log_assets", "COMET_LOG_ASSETS") else "no"
        try:
            with nothing_captured():
                comet_ml = import_comet()
        except ImportError as error:
            raise self.not_installed(error) from error
        config = comet_ml.get_config()
        given = self._arguments["online"]
        self._online = config.get_bool(given, "comet.start.online", True, not_set_value=None)
        if self._online and running_experiment() is None and not comet_ml.get_api_key(None, config):
            raise DeliveryError(
                "Comet has no key: run `comet login`, set COMET_API_KEY, or have it write archives "
                "that can be uploaded later, with COMET_START_ONLINE=0 or online=False."
            )

    def start(self, run: ExperimentRun) -> None:
        """Opens the experiment, or takes the one that the script has open."""
        running = running_experiment()
        if running is not None:
            self._experiment, self._is_ours, self._files = running, False, None
            self.found(id=running.get_key(), url=running.url)
            return
        comet_ml = import_comet()
        in_env = None if run.group else os.environ.get("COMET_EXPERIMENT_KEY")
        key = self._arguments["experiment_key"] or in_env or run.known.get("id")
        if not key:
            key = comet_ml.get_experiment_key(run.run_id or None)
        given = self._arguments["offline_directory"] or os.environ.get("COMET_OFFLINE_DIRECTORY")
        folder = Path(given).absolute() if given else run.output_dir.absolute() / "comet"
        folder.mkdir(parents=True, exist_ok=True)  # Comet makes one level at most.
        note = run.output_dir.absolute() / FOLDER / f"comet-{key}.unfinished"
        project, workspace = self._arguments["project_name"], self._arguments["workspace"]
        config = comet_ml.get_config()
        left = rescue(
            note,
            folder,
            key,
            project or config["comet.project_name"],
            workspace or config["comet.workspace"],
        )
        if left:
            log.warning(
                f"Comet: what an experiment had that did not end is in {left}; "
                f"`comet upload {left}` sends it."
            )
        mode = "create" if run.group else self._mode() or "get_or_create"
        if run.resumed and mode == "create":
            mode = "get_or_create"
        chosen = {"project_name": project, "workspace": workspace, "experiment_key": key}
        described: dict[str, Any] = {
            "name": None if run.resumed else self._arguments["name"] or run.name,
            "tags": self._arguments["tags"],
            "offline_directory": str(folder),
        }
        self._experiment, self._is_ours = self._opened({**chosen, "mode": mode}, described), True
        is_online = hasattr(self._experiment.streamer, "online_streamer")
        self._files = Files(self._experiment, note)
        url = self._experiment.url if is_online else None
        self.found(id=key, url=url, folder=None if is_online else str(folder))
        log.info(f"comet: {url or f'the experiment is going to be in {folder}/{key}*.zip'}")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs them by one name each, `outer|inner`, as Comet has nested ones."""
        given = flat(plain(params), "|")
        for name, value in given.items():
            if isinstance(value, str | dict | list) and len(str(value)) > MAX_VALUE:
                self.say_once(f"comet: the parameter {name} is cut to {MAX_VALUE} characters.")
        self._experiment.log_parameters(given, nested_support=False)
        self.collected()

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Logs numbers at their step and epoch, and texts among the experiment's others."""
        numbers = {name: v for name, v in metrics.items() if not isinstance(v, str)}
        if numbers:
            self._experiment.log_metrics(numbers, step=step, epoch=epoch)
        self._experiment.log_others({name: v for name, v in metrics.items() if name not in numbers})
        self.collected()

    def log_histogram(self, event: Histogram) -> None:
        """Logs it as a histogram of its bins' middles."""
        pairs = zip(event.edges, event.edges[1:], strict=False)
        histogram = import_comet().Histogram()
        histogram.add([(low + high) / 2 for low, high in pairs], counts=list(event.counts))
        self._experiment.log_histogram_3d(histogram, name=event.tag, step=event.step)
        self.collected()

    def log_artifact(self, event: Artifact) -> None:
        """Logs texts and images where Comet shows those, tables and files as assets."""
        metadata = {"tag": event.tag}
        if event.kind == "text":
            self._experiment.log_text(event.read_text(), step=event.step, metadata=metadata)
        elif event.kind == "table":
            columns, rows = event.read_table()
            self._experiment.set_step(event.step)
            name = f"{event.tag}/step-{event.step}.csv"
            self._experiment.log_table(name, [list(row) for row in rows], headers=list(columns))
        else:
            with file_of(event) as file:
                if event.kind == "image":
                    self._experiment.log_image(str(file), name=event.tag, step=event.step)
                else:
                    name = f"{event.tag}/step-{event.step}/{file_name(event)}"
                    self._experiment.log_asset(
                        str(file), file_name=name, step=event.step, metadata=metadata
                    )
        self.collected()

    def upload_checkpoint(self, folder: Path, event: Save) -> None:
        """Logs its files as assets, by the name of the folder."""
        self._experiment.log_asset_folder(
            str(folder), step=event.step, log_file_name=True, recursive=True
        )
        self.collected()

    def flush(self) -> None:
        """Waits until Comet's own thread has everything on disk."""
        if self._files is not None:
            self._files.wait_until_written()

    def finish(self, status: RunStatus) -> None:
        """Ends the experiment with its status; one of the script's own stays open."""
        experiment, self._experiment = self._experiment, None
        experiment.log_others({f"stepbus/{name}": text for name, text in status.told().items()})
        if not self._is_ours:
            return
        if not status.succeeded:
            # As Comet's own exception hook does.
            experiment._report_experiment_error(status.reason or status.kind, has_crashed=True)
        experiment.end()
        if self._files is not None:
            self._files.done()
            self._files = None
        archive = getattr(experiment.streamer, "offline_archive_file", None)
        if archive:
            log.warning(
                f"Comet's server did not take everything of experiment {experiment.get_key()}: "
                f"it is in {archive}, and `comet upload {archive}` sends it."
            )

    def _opened(self, chosen: dict[str, Any], described: dict[str, Any]) -> Any:
        """An experiment, offline where its server cannot be reached."""
        if not self._online:
            return start_experiment(chosen, described, online=False)
        why = why_offline()
        if not why:
            try:
                experiment = start_experiment(chosen, described, online=True)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            else:
                if experiment.alive:
                    return experiment
                why = "it did not take the experiment"
        self.say_once(
            f"Comet cannot be used ({why}): nothing is delivered to it, and the experiment goes "
            f"on in an archive in {described['offline_directory']}, which `comet upload` sends."
        )
        return start_experiment(chosen, described, online=False)

    def _mode(self) -> str | None:
        chosen = _checked_mode(self._arguments["mode"], "mode")
        if not self.why_not():
            chosen = chosen or _checked_mode(os.environ.get("COMET_MODE"), "COMET_MODE")
        return chosen or _checked_mode(os.environ.get("COMET_START_MODE"), "COMET_START_MODE")

    def _key_given(self) -> str | None:
        given: str | None = self._arguments["experiment_key"]
        return given or os.environ.get("COMET_EXPERIMENT_KEY") or None

    def _is_on(self, argument: str, variable: str) -> bool:
        given = self._arguments[argument]
        return bool(given) if given is not None else os.environ.get(variable, "").upper() in TRUE


def _checked_mode(value: str | None, source: str) -> str | None:
    if not value:
        return None
    if value.lower() not in MODES:
        known = ", ".join(map(repr, MODES))
        raise ArgumentError(
            f"{source} is {value!r}: it must be one of {known}. For archives without a "
            "server it is COMET_START_ONLINE=0."
        )
    return value.lower()
