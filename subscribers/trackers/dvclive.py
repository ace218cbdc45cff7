"""Logs to DVCLive: text files in the run's folder, and in DVC's repository where that is asked."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...bus.diagnostics import get_logger
from ...schemas import Artifact, Event, Save
from ...schemas.errors import ArgumentError
from .artifact_file import file_of
from .experiment import ExperimentTracker
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus, plain
from .mlflow_artifacts import place_of

log = get_logger()

FOLDER = "dvclive"
MAX_COLLECTED = 1_000
UPLOADS: Mapping[str, Literal["no", "checkpoint", "end"]] = {
    **dict.fromkeys(("", "0", "off", "no", "false"), "no"),
    **dict.fromkeys(("1", "on", "yes", "true"), "end"),
    "all": "checkpoint",
}
SHOWN_AS_PLOTS = (".jpg", ".jpeg", ".gif", ".png")
SPLITS = ("train", "eval")


class DVCLiveCallback(ExperimentTracker):
    """Writes DVCLive's files: `params.yaml`, `plots/metrics/*.tsv`, `metrics.json`.

    Names are the reference's: `loss`, `eval/loss`. The step of a point is the optimizer's. All is
    in `<output_dir>/dvclive`, where a run that goes on is continued and another one takes its
    place; no repository is touched unless `save_dvc_exp` or DVC itself, in `dvc exp run` or `dvc
    repro`, asks for it. Closing figures and the status are in `metrics.json` alone.

    Args:
        live: a `dvclive.Live` of the script's own, which keeps the tracker in its process.
        log_model: True keeps the checkpoint that training ends with, the best where that is loaded,
            in `artifacts/best` or `artifacts/last`; "all" each one. DVC tracks them where their
            folder is in a repository of DVC; with `save_dvc_exp` it is `<dir>_artifacts`.
            Otherwise HF_DVCLIVE_LOG_MODEL.
        dir: where the files go.
        dvcyaml: the `dvc.yaml` that names the files for DVC; by default there is none, and
            `dvc.yaml` in the working directory with `save_dvc_exp`.
        report: "html" or "md" writes a report at the end.
        save_dvc_exp: saves a DVC experiment at the end, which makes a Git repository one of DVC
            where it is none.
        exp_name: its name; by default the run's name.
        exp_message: its message.
        monitor_system: logs the use of GPU, CPU, memory and disks.

    Raises:
        ArgumentError: log_model or HF_DVCLIVE_LOG_MODEL is none of these, or `live` no `Live`; in
            the constructor or in `open()`.
        DeliveryError: in `open()`: dvclive is not installed.
    """

    tracker_name: ClassVar[str] = "dvclive"
    package: ClassVar[str] = "dvclive"
    extra: ClassVar[str] = "dvclive"
    set_up_by: ClassVar[str] = "a repository of DVC (`dvc init`) or HF_DVCLIVE_LOG_MODEL"

    def __init__(
        self,
        live: Any = None,
        log_model: bool | str | None = None,
        *,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002 - dvclive's own word
        dvcyaml: str | os.PathLike[str] | None = None,
        report: Literal["html", "md"] | None = None,
        save_dvc_exp: bool = False,
        exp_name: str | None = None,
        exp_message: str | None = None,
        monitor_system: bool = False,
    ) -> None:
        super().__init__()
        if live is not None and not hasattr(live, "log_metric"):
            raise ArgumentError(f"live is {live!r}: it must be a dvclive.Live.")
        if log_model is not None:
            _uploads(log_model, "log_model")
        self._arguments: dict[str, Any] = {
            "log_model": log_model,
            "dir": os.fspath(dir) if dir is not None else None,
            "dvcyaml": os.fspath(dvcyaml) if dvcyaml is not None else None,
            "report": report,
            "save_dvc_exp": save_dvc_exp,
            "exp_name": exp_name,
            "exp_message": exp_message,
            "monitor_system": monitor_system,
        }
        self._given = live
        self.live: Any = live
        """What it writes with, a `dvclive.Live`; None until a run has begun."""
        self._alone = True
        self._names: dict[str, str] = {}
        self._rows: list[tuple[int, str, Value, bool]] = []

    def made_with(self) -> dict[str, Any] | None:
        """Its arguments; None with a `Live` of the script's own, which stays in its process."""
        return dict(self._arguments) if self._given is None else None

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, and asked for checkpoints or in a repository of DVC."""
        asked = os.environ.get("HF_DVCLIVE_LOG_MODEL") or os.environ.get("DVC_ROOT")
        return cls.is_installed() and bool(asked or _repository())

    def check(self, args: object) -> None:
        """Refuses a setting that there is not.

        Raises:
            ArgumentError: HF_DVCLIVE_LOG_MODEL is none of its values.
        """
        self._uploads_chosen()

    def open(self) -> None:
        """Imports dvclive."""
        self.uploads = self._uploads_chosen()
        streams = sys.stdout, sys.stderr
        try:
            import dvclive  # noqa: F401
        except ImportError as error:
            raise self.not_installed(error) from error
        finally:
            sys.stdout, sys.stderr = streams  # A library of DVC's puts itself in between.

    def key(self, name: str) -> str:
        """`eval/loss` of `eval_loss` and `train/x` of `train_x`; all others are as they are."""
        split, _, rest = name.partition("_")
        return f"{split}/{rest}" if split in SPLITS and rest else name

    def start(self, run: ExperimentRun) -> None:
        """Opens the folder, with what the run has in it already."""
        if self._given is None:
            self.live = self._live(run)
        self._names = {}
        folder = Path(self.live.dir).absolute()
        self.found(id=run.run_id, folder=str(folder))
        log.info(f"dvclive: the run is in {folder}")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Writes all of them: dvclive would take a nested value for the whole of it."""
        assert self.run is not None
        self.live.log_params(plain(self.run.params))

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Collects a row for the file of each."""
        self._collect(metrics, step=step, plot=True)

    def log_closing(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Collects them for `metrics.json`."""
        self._collect(metrics, step=step, plot=False)

    def flush(self) -> None:
        """Writes what was collected, and the newest of it to `metrics.json`, which takes dvclive
        three times as long as a row of each."""
        rows, self._rows = self._rows, []
        for step, name, value, plot in rows:
            self.live.step = step
            self.live.log_metric(name, value, plot=plot)
        if rows:
            self.live.make_summary()

    def log_artifact(self, event: Artifact) -> None:
        """Copies it, byte for byte: an image to the plots, all else to `artifacts/<tag>`."""
        place = place_of(event)
        is_plot = event.kind == "image" and place.endswith(SHOWN_AS_PLOTS)
        folder = Path(self.live.plots_dir, "images") if is_plot else Path(self.live.artifacts_dir)
        with file_of(event) as file:
            if is_plot:
                place = f"{Path(place).parent.parent}/{event.step}{Path(place).suffix}"
                self.live.step = event.step
                with contextlib.suppress(ImportError):  # Of Pillow, which encodes it anew.
                    self.live.log_image(place, str(file))
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / place)

    def upload_checkpoint(self, folder: Path, event: Save) -> None:
        """Copies it to `artifacts`, under its name."""
        self._keep_files(folder, folder.name)

    def upload_model(self, folder: Path, event: Event) -> None:
        """Copies it to `artifacts`, as the best or the last."""
        assert self.run is not None
        best = self.run.arguments.get("load_best_model_at_end")
        self._keep_files(folder, "best" if best else "last")

    def finish(self, status: RunStatus) -> None:
        """Writes the status and what is written once."""
        live, self.live = self.live, self._given
        live.summary["stepbus"] = status.told()
        if self._given is not None or not self._alone or self._arguments["monitor_system"]:
            live.end()
            return
        # No `end()`, which would leave a thread behind that waits to send to DVC Studio.
        live.make_summary()
        if self._arguments["dvcyaml"]:
            live.make_dvcyaml()
        live.make_report()

    def _live(self, run: ExperimentRun) -> Any:
        from dvclive.live import Live

        from .dvclive_folder import FolderLive

        given = self._arguments
        saves = given["save_dvc_exp"]
        asked = saves or os.environ.get("DVC_ROOT")
        self._alone = not asked and (self.uploads == "no" or _repository() is None)
        return (FolderLive if self._alone else Live)(
            dir=given["dir"] or str(run.output_dir / FOLDER),
            resume=run.resumed,
            report=given["report"],
            save_dvc_exp=saves,
            dvcyaml=given["dvcyaml"] or ("dvc.yaml" if saves else None),
            exp_name=given["exp_name"] or (run.name if saves else None),
            exp_message=given["exp_message"],
            monitor_system=given["monitor_system"],
        )

    def _collect(self, metrics: Mapping[str, Value], *, step: int, plot: bool) -> None:
        if len(self._rows) >= MAX_COLLECTED:
            self._flush()
        self._rows += [(step, self._name(name), value, plot) for name, value in metrics.items()]
        self.collected()

    def _name(self, name: str) -> str:
        """The name as one of a file under the folder, and of its own place in `metrics.json`."""
        found = self._names.get(name)
        if found is None:
            parts = [part for part in name.replace("\\", "/").split("/") if part.strip(". ")]
            found = "/".join(parts) or "_"
            if found.rpartition("/")[2] in ("step", "timestamp"):
                found += "_"  # Columns that dvclive's files have themselves.
            while any(_collide(found, other) for other in self._names.values()):
                found = found.replace("/", "_") + "_"
            if found != name:
                self.say_once(f"dvclive: {name} is written as {found}.")
            self._names[name] = found
        return found

    def _keep_files(self, folder: Path, name: str) -> None:
        # Beside a folder that is saved as an experiment, for Git takes all that is in that one.
        saves = self._arguments["save_dvc_exp"]
        place = Path(f"{self.live.dir}_artifacts" if saves else self.live.artifacts_dir)
        target = place / name
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(folder, target)
        repository = _repository()
        if repository is None or repository not in target.absolute().parents:
            self.say_once(
                f"dvclive: {target.parent} is in no repository of DVC that the working directory "
                "is in, so that checkpoints are kept there and DVC does not track them."
            )
            return
        self.live.log_artifact(str(target), type="model", name=name)

    def _uploads_chosen(self) -> Literal["no", "checkpoint", "end"]:
        given = self._arguments["log_model"]
        if given is not None:
            return _uploads(given, "log_model")
        return _uploads(os.environ.get("HF_DVCLIVE_LOG_MODEL", ""), "HF_DVCLIVE_LOG_MODEL")


def _uploads(chosen: bool | str, source: str) -> Literal["no", "checkpoint", "end"]:
    found = UPLOADS.get(str(chosen).strip().lower())
    if found is None:
        raise ArgumentError(f"{source} is {chosen!r}: it must be true, false or 'all'.")
    return found


def _collide(name: str, other: str) -> bool:
    """Whether one is the other, or a value where the other has a group of values."""
    return name == other or name.startswith(f"{other}/") or other.startswith(f"{name}/")


def _repository() -> Path | None:
    """The repository of DVC that the working directory is in."""
    here = Path.cwd()
    return next((place for place in (here, *here.parents) if (place / ".dvc").is_dir()), None)
