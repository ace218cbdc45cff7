"""Logs to Weights & Biases, online or into its offline files."""

from __future__ import annotations

import contextlib
import io
import netrc
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast
from urllib.parse import urlsplit

from ...bus.diagnostics import get_logger
from ...bus.sidecar.trainer import trainer_pid
from ...schemas import Artifact, Event, Histogram, Save
from ...schemas.errors import ArgumentError, DeliveryError
from .experiment import ExperimentTracker
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus, plain
from .wandb_artifacts import file_artifact, media_of

log = get_logger()

PROJECT = "huggingface"
"""Where neither the caller nor WANDB_PROJECT names one, as in the reference."""
STEP = "train/global_step"
"""The x axis of all metrics."""
INIT_TIMEOUT_S = 20.0
"""For wandb's server to answer; after that the run goes on in offline files."""
FLUSH_S = 0.05
"""Between two writes of wandb's own process to its file; left alone it takes 15 s."""
LAG_S = 3 * FLUSH_S
"""How long that process has for what it was given."""
TICK_S = 0.01
"""Of the clock by which files are dated."""
NO_WRITE_S = 3.0
"""What has not led to a write by then was not to be written."""
MAX_BINS = 512
"""Of a histogram in wandb."""
FLUSHES = "x_transaction_log_flush_interval"
"""The setting of wandb that says so; an older one has none, and writes when its buffer is full."""
WATCHED = ("gradients", "parameters", "all")
OFFLINE = ("offline", "dryrun")
UPLOADS: Mapping[str, Literal["no", "checkpoint", "end"]] = {
    "false": "no",
    "checkpoint": "checkpoint",
    "end": "end",
}


class WandbCallback(ExperimentTracker):
    """Logs to a run of Weights & Biases: names as `train/loss` over `train/global_step`.

    The run's id is stepbus's own, so that an evaluation after the training, another attempt and a
    replaced process go on with it; wandb's offline files cannot be continued, so that there each
    of them is a further folder of the same run, which `wandb sync` puts together. Closing figures
    are in the summary, with the status. A run of wandb that the script has open is used, and left
    open. wandb's own variables are obeyed wherever an argument is not given.

    Args:
        project: WANDB_PROJECT otherwise, and "huggingface" without one.
        entity: the account or team.
        name: the run's name; by default `run_name`, or that of its trial.
        group: what the run belongs to; by default what a trial's search is called.
        tags: labels of the run.
        log_model: "checkpoint" uploads each checkpoint, "end" the one that training ends with, the
            best where that is loaded; "false" none. By default what WANDB_LOG_MODEL says.
        watch: histograms of the model's "gradients", "parameters" or "all", every 100 steps or
            `logging_steps`, counted on the device; "false" none. By default WANDB_WATCH.
        mode: online, offline or disabled.
        dir: where its files go; by default WANDB_DIR, else the run's `output_dir`.

    Raises:
        ArgumentError: log_model or WANDB_LOG_MODEL is none of these; in the constructor or in
            `open()`.
        DeliveryError: in `open()`: wandb is not installed, or it is to be online without a key.
    """

    tracker_name: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "wandb"
    set_up_by: ClassVar[str] = "WANDB_API_KEY, `wandb login` or WANDB_MODE=offline"
    needs_login: ClassVar[bool] = True
    modules: ClassVar[tuple[str, ...]] = ("wandb",)
    remembers_place: ClassVar[bool] = False

    def __init__(
        self,
        *,
        project: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] | None = None,
        log_model: str | bool | None = None,
        watch: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002 - wandb's own word
    ) -> None:
        super().__init__()
        if log_model is not None:
            _uploads(log_model, "log_model")
        self._arguments: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "name": name,
            "group": group,
            "tags": list(tags) if tags is not None else None,
            "log_model": log_model,
            "watch": watch,
            "mode": mode,
            "dir": os.fspath(dir) if dir is not None else None,
        }
        self._run: Any = None
        self._is_ours = False
        self._gave_s = 0.0
        """When wandb's process was last given something (monotonic)."""
        self._file: Path | None = None
        """What wandb's own process writes, and loses what it has not written when ours dies."""

    def made_with(self) -> dict[str, Any]:
        """Its arguments."""
        return dict(self._arguments)

    @property
    def watches(self) -> str:
        """What of the model the run is to count for it; empty for nothing."""
        chosen = self._arguments["watch"] or os.environ.get("WANDB_WATCH") or "false"
        return chosen.lower() if chosen.lower() in WATCHED else ""

    def check(self, args: object) -> None:
        """Refuses settings that there are not.

        Raises:
            ArgumentError: WANDB_LOG_MODEL or WANDB_WATCH is none of its values.
        """
        self._uploads_chosen()
        chosen = self._arguments["watch"] or os.environ.get("WANDB_WATCH") or "false"
        if chosen.lower() not in (*WATCHED, "false"):
            source = "watch" if self._arguments["watch"] else "WANDB_WATCH"
            known = ", ".join(map(repr, WATCHED))
            raise ArgumentError(f"{source} is {chosen!r}: it must be {known} or 'false'.")

    def _uploads_chosen(self) -> Literal["no", "checkpoint", "end"]:
        given = self._arguments["log_model"]
        source = "log_model" if given is not None else "WANDB_LOG_MODEL"
        chosen = given if given is not None else os.environ.get("WANDB_LOG_MODEL", "false")
        return _uploads(chosen, source)

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, with a key, or in a mode that needs none."""
        mode = os.environ.get("WANDB_MODE", "").lower()
        if not cls.is_installed() or mode == "disabled":
            return False
        return mode in OFFLINE or _has_key()

    def open(self) -> None:
        """Imports wandb, and looks whether it can do what it is to do."""
        self.uploads = self._uploads_chosen()
        try:
            import wandb
        except ImportError as error:
            raise self.not_installed(error) from error
        mode = self._arguments["mode"] or wandb.setup().settings.mode
        if wandb.run is None and mode not in (*OFFLINE, "disabled") and not _has_key():
            raise DeliveryError(
                "wandb has no key: run `wandb login`, set WANDB_API_KEY, or have it write files "
                "that can be sent later, with WANDB_MODE=offline or mode='offline'."
            )

    def secure(self) -> float | None:
        """Vouches for what wandb's own process has had the time to write, and has written since."""
        found = [super().secure(), self._written_until()]
        return min((until for until in found if until is not None), default=None)

    def _written_until(self) -> float | None:
        file = self._file
        if file is None:
            return None
        try:
            written_s_ago = time.time() - file.stat().st_mtime - TICK_S
        except OSError:
            return None
        now = time.monotonic()
        idle_s = now - self._gave_s
        if idle_s > LAG_S and (written_s_ago < idle_s or idle_s > NO_WRITE_S):
            return None
        return now - max(written_s_ago, LAG_S)

    def start(self, run: ExperimentRun) -> None:
        """Opens wandb's run, or takes the one that the script has open."""
        import wandb

        if wandb.run is not None and not _RUNS.ours(wandb.run):
            self._run, self._is_ours = wandb.run, False
        else:
            self._run, self._is_ours = self._new_run(run), True
            _RUNS.opened(self._run)
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)
        is_online = not (self._run.offline or self._run.disabled)
        url = self._run.url if is_online else None
        folder = Path(self._run.dir).parent
        files = sorted(folder.glob("run-*.wandb")) if self._is_ours else []
        self._file = files[0] if files and FLUSHES in wandb.Settings.model_fields else None
        self.found(id=self._run.id, url=url, folder=str(folder))
        log.info(f"wandb: {url or f'the run is in {folder}'}")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Puts them into the run's config."""
        self._run.config.update(plain(params), allow_val_change=True)
        self._gave()

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Logs them over the step."""
        self._run.log({**metrics, STEP: step, "_timestamp": time})
        self._gave()

    def log_closing(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Puts them into the summary, by the names that they have in the reference."""
        self._run.summary.update({k.removeprefix("train/"): v for k, v in metrics.items()})
        self._gave()

    def log_histogram(self, event: Histogram) -> None:
        """Logs it under its tag."""
        import wandb

        counts, edges = list(event.counts), list(event.edges)
        while len(counts) > MAX_BINS:
            counts = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]
            edges = [*edges[0:-1:2], edges[-1]]
        histogram = wandb.Histogram(np_histogram=cast(Any, (counts, edges)))
        self._run.log({event.tag: histogram, STEP: event.step, "_timestamp": event.time})
        self._gave()

    def log_artifact(self, event: Artifact) -> None:
        """Logs text as `Html`, an image as `Image`, a table as `Table`, a file as an artifact."""
        if event.kind == "file":
            artifact = file_artifact(event, _artifact_name(event.tag))
            self._run.log_artifact(artifact, aliases=[f"step-{event.step}", "latest"])
        else:
            with media_of(event) as media:
                self._run.log({event.tag: media, STEP: event.step, "_timestamp": event.time})
        self._gave()

    def upload_checkpoint(self, folder: Path, event: Save) -> None:
        """Logs the folder as an artifact."""
        aliases = [f"epoch_{round(event.epoch, 2)}", f"checkpoint-{event.step}", "latest"]
        self._upload(folder, [*aliases, "best"] if event.best else aliases)

    def upload_model(self, folder: Path, event: Event) -> None:
        """Logs the folder as an artifact."""
        self._upload(folder, ["final_model", "latest"])

    def finish(self, status: RunStatus) -> None:
        """Finishes the run with its status; one of the script's own stays open."""
        run, self._run = self._run, None
        assert run is not None
        run.summary.update({f"stepbus/{name}": text for name, text in status.told().items()})
        if not self._is_ours:
            return
        run.finish(exit_code=0 if status.succeeded else 1)
        _RUNS.finished(run)
        self._file = None

    def _new_run(self, run: ExperimentRun) -> Any:
        import wandb

        given = self._arguments
        environ = os.environ
        folder = given["dir"] or environ.get("WANDB_DIR") or str(run.output_dir)
        Path(folder).mkdir(parents=True, exist_ok=True)
        chosen: dict[str, Any] = {
            "project": given["project"] or environ.get("WANDB_PROJECT") or PROJECT,
            "entity": given["entity"],
            "name": given["name"] or run.name,
            "group": given["group"] or run.group,
            "tags": given["tags"],
            "dir": folder,
            "id": environ.get("WANDB_RUN_ID") or run.run_id or None,
        }
        mode: Any = given["mode"] or wandb.setup().settings.mode
        settings: dict[str, Any] = {}
        if "WANDB_INIT_TIMEOUT" not in environ:
            settings["init_timeout"] = INIT_TIMEOUT_S
        trainer = trainer_pid()
        if FLUSHES in wandb.Settings.model_fields:
            settings[FLUSHES] = FLUSH_S
        if trainer is not None:
            # Its process prints nothing that anybody wants to keep, and its figures are not those
            # of the training.
            environ.setdefault("WANDB_DATA_DIR", str(Path(folder).absolute() / "wandb" / "data"))
            settings |= {"console": "off", "silent": True, "x_stats_pid": trainer}
        chosen["settings"] = wandb.Settings(**settings)
        chosen = {name: value for name, value in chosen.items() if value is not None}
        if mode in OFFLINE:
            return self._init(chosen, "offline")
        resume = {} if "WANDB_RESUME" in environ else {"resume": "allow"}
        try:
            return self._init({**chosen, **resume}, mode)
        except wandb.errors.CommError as error:
            if not _RUNS.restart_service():
                raise
            self.say_once(
                f"wandb cannot be reached ({error}): the run goes on in offline files, which "
                "`wandb sync` sends."
            )
            return self._init(chosen, "offline")

    def _init(self, chosen: dict[str, Any], mode: Any) -> Any:
        import wandb

        if mode in OFFLINE:
            self._wait_for_another_second(Path(chosen["dir"]) / "wandb", chosen.get("id"))
        hook = sys.excepthook
        try:
            return wandb.init(**chosen, mode=mode, reinit="create_new")
        finally:
            sys.excepthook = hook

    def _wait_for_another_second(self, folder: Path, run_id: str | None) -> None:
        """wandb names the folder of an offline run by the second, and would write over another."""
        earlier = sorted(folder.glob(f"offline-run-*-{run_id}")) if run_id else []
        if not earlier:
            return
        self.say_once(
            f"wandb: the offline files of run {run_id} cannot be continued, so it goes on in a "
            f"further folder; `wandb sync {folder}/offline-run-*-{run_id}` puts them together."
        )
        while f"offline-run-{time.strftime('%Y%m%d_%H%M%S')}-{run_id}" in (p.name for p in earlier):
            time.sleep(0.05)

    def _upload(self, folder: Path, aliases: list[str]) -> None:
        import wandb

        assert self.run is not None
        name = self._run.name if self.run.name and self._run.name else self._run.id
        artifact = wandb.Artifact(name=f"model-{_artifact_name(name)}", type="model")
        artifact.metadata = {"model/num_parameters": self.run.num_parameters, "folder": folder.name}
        with contextlib.redirect_stderr(io.StringIO()):  # It shows its progress there.
            artifact.add_dir(str(folder))
        self._run.log_artifact(artifact, aliases=aliases)
        self._gave()

    def _gave(self) -> None:
        self._gave_s = time.monotonic()


class _Runs:
    """The runs that stepbus has open in this process, so that wandb's own process can be ended with
    the last one: only then are offline files known to be complete."""

    def __init__(self) -> None:
        self._open: list[Any] = []

    def ours(self, run: Any) -> bool:
        """Whether stepbus opened it."""
        return any(run is other for other in self._open)

    def opened(self, run: Any) -> None:
        """Notes a run."""
        self._open.append(run)

    def restart_service(self) -> bool:
        """Ends wandb's own process, which still holds a run that could not be opened; False where
        another run needs it."""
        import wandb

        if self._open or wandb.run is not None:
            return False
        wandb.teardown()
        return True

    def finished(self, run: Any) -> None:
        """Waits until wandb's process has written what it has, if no run needs it any more."""
        self._open = [other for other in self._open if other is not run]
        self.restart_service()


_RUNS = _Runs()


def _uploads(chosen: str | bool, source: str) -> Literal["no", "checkpoint", "end"]:
    if isinstance(chosen, bool):
        chosen = "end" if chosen else "false"
    found = UPLOADS.get(chosen.strip().lower())
    if found is None:
        raise ArgumentError(f"{source} is {chosen!r}: it must be 'checkpoint', 'end' or 'false'.")
    return found


def _has_key() -> bool:
    """Whether wandb will find a key in its variable or where `wandb login` has put it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    files = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    for file in filter(None, files):
        try:
            if netrc.netrc(Path(file).expanduser()).authenticators(host) is not None:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _artifact_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
