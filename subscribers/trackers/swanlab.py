"""Logs to SwanLab, online or into its offline files."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...bus.diagnostics import get_logger
from ...bus.sidecar.trainer import trainer_pid
from ...schemas import Artifact
from ...schemas.errors import DeliveryError
from .artifact_file import file_of
from .experiment import ExperimentTracker
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus, plain
from .mlflow_artifacts import place_of
from .swanlab_runs import RUNS, ensure_flushed, media_of

log = get_logger()

FOLDER = "swanlog"
STEP = "train/global_step"
KEPT = "stepbus"
"""In the run's folder: copies of files that were logged."""
REACH_S = 5.0
"""For its server to answer when the run begins; after that the run is offline."""
LAG_S = 1.0
"""In which SwanLab's thread has put a value that nothing follows into the file."""
MOST_LAG_S = 60.0
"""In which it has, whatever follows: it gathers 100 values, or waits 0.5 s for another."""
OFFLINE = ("offline", "local")
STATE = {"finished": "success", "stopped": "success", "failed": "crashed", "killed": "crashed"}


class SwanLabCallback(ExperimentTracker):
    """Logs to a run of SwanLab: names as `train/loss`, closing figures as `single_value/...`.

    The run's id is stepbus's own. SwanLab takes one value of a name and step, and no second one, so
    that what is sent again after a process was killed is there once. Its offline files cannot be
    continued: an evaluation after the training, another attempt and a replaced process are further
    folders of the same run, which `swanlab sync` puts together. A run that the script has open is
    used, and left open. SwanLab's own variables are obeyed where an argument is not given.

    Args:
        project: otherwise SWANLAB_PROJECT, else the name of the working directory.
        workspace: the account or organisation; otherwise SWANLAB_WORKSPACE.
        name: the run's name; by default `run_name`, or that of its trial.
        group: what the run belongs to; by default what a trial's search is called.
        tags: labels of the run.
        mode: online, offline, local (offline, with a database for SwanLab's own dashboard) or
            disabled; otherwise SWANLAB_MODE, else online.
        log_dir: where its files go; otherwise SWANLAB_LOG_DIR, else `<output_dir>/swanlog`.

    Raises:
        DeliveryError: in `open()`: swanlab is not installed, is to be online without a key, or
            is given settings that it does not take.
    """

    tracker_name: ClassVar[str] = "swanlab"
    package: ClassVar[str] = "swanlab"
    extra: ClassVar[str] = "swanlab"
    set_up_by: ClassVar[str] = "SWANLAB_API_KEY, `swanlab login` or SWANLAB_MODE=offline"
    needs_login: ClassVar[bool] = True
    modules: ClassVar[tuple[str, ...]] = ("swanlab",)
    remembers_place: ClassVar[bool] = False

    def __init__(
        self,
        *,
        project: str | None = None,
        workspace: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] | None = None,
        mode: Literal["online", "offline", "local", "disabled"] | None = None,
        log_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self._arguments: dict[str, Any] = {
            "project": project,
            "workspace": workspace,
            "name": name,
            "group": group,
            "tags": list(tags) if tags is not None else None,
            "mode": mode,
            "log_dir": os.fspath(log_dir) if log_dir is not None else None,
        }
        self._run: Any = None
        self._is_ours = False
        self._gave_s = 0.0
        """When swanlab's thread was last given something (monotonic)."""

    def made_with(self) -> dict[str, Any]:
        """Its arguments."""
        return dict(self._arguments)

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, with a key, or in a mode that needs none."""
        mode = os.environ.get("SWANLAB_MODE", "")
        if not cls.is_installed() or mode == "disabled":
            return False
        return mode in OFFLINE or _has_key()

    def open(self) -> None:
        """Imports swanlab, and looks whether it can do what it is to do."""
        _rename_project()
        try:
            import swanlab
        except ImportError as error:
            raise self.not_installed(error) from error
        if swanlab.has_run() and not RUNS.ours(swanlab.get_run()):
            return
        try:
            settings = swanlab.Settings()
        except ValueError as error:
            raise DeliveryError(f"SwanLab does not take its settings: {error}") from error
        mode = self._arguments["mode"] or settings.mode
        if mode == "online" and not settings.api_key:
            raise DeliveryError(
                "swanlab has no key, and cannot be online without: run `swanlab login`, set "
                "SWANLAB_API_KEY, or have it write files that can be sent later, with "
                "SWANLAB_MODE=offline or mode='offline'."
            )
        if mode == "local" and importlib.util.find_spec("swanboard") is None:
            raise DeliveryError(
                "SwanLab's mode 'local' needs its dashboard, which is not installed: pip install "
                "'swanlab[dashboard]', or choose 'offline'."
            )
        if os.environ.get("SWANLAB_LOG_MODEL"):
            self.say_once("SwanLab keeps no models: SWANLAB_LOG_MODEL has no effect.")

    def secure(self) -> float | None:
        """Has swanlab's file written, and vouches for what its thread has put there."""
        found = [super().secure(), self._written_until()]
        return min((until for until in found if until is not None), default=None)

    def _written_until(self) -> float | None:
        run = self._run
        if run is None or not self._is_ours:
            return None
        now = time.monotonic()
        idle_s = now - self._gave_s
        if not ensure_flushed(run) or idle_s <= LAG_S:
            return now - MOST_LAG_S
        return None

    def start(self, run: ExperimentRun) -> None:
        """Opens a run of SwanLab's, or takes the one that the script has open."""
        import swanlab

        if swanlab.has_run() and not RUNS.ours(swanlab.get_run()):
            self._run, self._is_ours = swanlab.get_run(), False
        else:
            self._run, self._is_ours = self._new_run(run), True
        is_online = self._run.mode == "online"
        url = self._run.url if is_online else None
        folder = str(Path(self._run.dir).absolute()) if self._run.mode != "disabled" else None
        self.found(id=self._run.id, url=url, folder=folder)
        log.info(f"swanlab: {url or f'the run is in {folder}'}")
        self._configure(run.params)  # Each of its files has them, for the last sent is what counts.

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Puts them into the run's config."""
        assert self.run is not None
        self._configure(self.run.params)

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Logs the numbers at the step."""
        numbers = {name: value for name, value in metrics.items() if not isinstance(value, str)}
        if len(numbers) < len(metrics):
            self.cannot("texts as metrics")
        self._run.log({**numbers, STEP: step}, step=step)
        self._gave()

    def log_closing(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Logs them by the names that they have in the reference."""
        named = {f"single_value/{k.removeprefix('train/')}": v for k, v in metrics.items()}
        self._run.log(named, step=step)
        self._gave()

    def log_artifact(self, event: Artifact) -> None:
        """Logs text as `Text`, an image as `Image`, a table as its table; a file is saved."""
        if event.kind != "file":
            with media_of(event) as media:
                self._run.log({event.tag: media}, step=event.step)
            self._gave()
            return
        # A copy, since swanlab links to what it saves, and may upload it later.
        kept = Path(self._run.dir) / KEPT
        target = kept / place_of(event)
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_of(event) as file:
            shutil.copyfile(file, target)
        self._run.save(str(target), base_path=str(kept), policy="now")
        self._gave()

    def finish(self, status: RunStatus) -> None:
        """Finishes the run with its status; one of the script's own stays open."""
        run, self._run = self._run, None
        run.config.update({f"stepbus/{name}": text for name, text in status.told().items()})
        if self._is_ours:
            with _quiet():
                RUNS.finish(run, STATE[status.kind], None if status.succeeded else status.reason)

    def _new_run(self, run: ExperimentRun) -> Any:
        import swanlab

        given, environ = self._arguments, os.environ
        settings = swanlab.Settings()
        folder = given["log_dir"] or environ.get("SWANLAB_LOG_DIR") or environ.get("SWANLAB_LOGDIR")
        folder = Path(folder or run.output_dir / FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        resume = environ.get("SWANLAB_RESUME") or "allow"
        chosen: dict[str, Any] = {
            "project": given["project"],
            "workspace": given["workspace"],
            "name": given["name"] or run.name,
            "group": given["group"] or run.group,
            "tags": given["tags"],
            "mode": given["mode"] or settings.mode,
            "log_dir": str(folder),
            "resume": resume,
            "id": environ.get("SWANLAB_RUN_ID") or run.run_id or None,
        }
        if resume == "never":
            del chosen["id"]  # SwanLab allows none then.
        # Its process prints nothing that anybody wants to keep, and in the script's it would put
        # itself between the script and its output.
        chosen["settings"] = {"terminal": {"proxy_type": "none"}, "interactive": False}
        if chosen["mode"] == "online" and not _answers(settings.api_host):
            self.say_once(
                f"SwanLab cannot be reached at {settings.api_host}: the run goes on in offline "
                f"files, which `swanlab sync` sends."
            )
            chosen["mode"] = "offline"
        chosen = {name: value for name, value in chosen.items() if value is not None}
        with _quiet():
            return RUNS.open(chosen)

    def _configure(self, params: Mapping[str, Any]) -> None:
        # What is nothing at all it would keep as an empty group.
        given = {k: "None" if v is None else v for k, v in plain(params).items()}
        self._run.config.update(given)
        self._gave()

    def _gave(self) -> None:
        self._gave_s = time.monotonic()


def _rename_project() -> None:
    """SwanLab 0.10 reads SWANLAB_PROJECT, its name of old, as a group of settings, and fails."""
    project = os.environ.get("SWANLAB_PROJECT")
    if project and not project.lstrip().startswith("{"):
        del os.environ["SWANLAB_PROJECT"]
        os.environ.setdefault("SWANLAB_PROJECT_NAME", project)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nobody reads what it prints in the sidecar; in the script's process others print too."""
    if trainer_pid() is None:
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _has_key() -> bool:
    """Whether swanlab will find a key in its variable or where `swanlab login` has put it."""
    if os.environ.get("SWANLAB_API_KEY"):
        return True
    home = os.environ.get("SWANLAB_ROOT") or os.environ.get("SWANLAB_SAVE_DIR")
    folders = (Path.cwd() / ".swanlab", Path(home) if home else Path.home() / ".swanlab")
    return any((folder / ".netrc").is_file() for folder in folders)


def _answers(address: str) -> bool:
    """Whether its server answers a request at all, of whatever kind."""
    requests: Any = importlib.import_module("requests")  # What swanlab asks with.
    try:
        requests.head(address, timeout=REACH_S, allow_redirects=False)
    except requests.RequestException:
        return False
    return True
