"""Logs to Weights & Biases, online or into its offline files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from ...bus.diagnostics import get_logger
from ...schemas import Artifact, Event, Histogram, Save
from ...schemas.errors import ArgumentError, DeliveryError
from .experiment import ExperimentTracker
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus, plain
from .wandb_artifacts import artifact_name, file_artifact, folder_artifact, media_of
from .wandb_file import WandbFile
from .wandb_opening import FLUSHES, WandbOpening
from .wandb_runs import RUNS
from .wandb_settings import OFFLINE, WATCHED, has_key, uploads_of

log = get_logger()

STEP = "train/global_step"
"""The x axis of all metrics."""
MAX_BINS = 512
"""Of a histogram in wandb."""


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
            uploads_of(log_model, "log_model")
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
        self._opening = WandbOpening(self._arguments, self.say_once)
        self._run: Any = None
        self._is_ours = False
        self._sending = ""
        """The folder of a run that wandb sends the rest of."""
        self._file = WandbFile()

    def made_with(self) -> dict[str, Any]:
        """Its arguments."""
        return dict(self._arguments)

    @property
    def watches(self) -> str:
        """What of the model the run is to count for it; empty for nothing."""
        chosen = self._arguments["watch"] or os.environ.get("WANDB_WATCH") or "false"
        return chosen.lower() if chosen.lower() in WATCHED else ""

    @property
    def wants_architecture(self) -> bool:
        """Whether the run is to log how the model is built."""
        return self._uploads_chosen() != "no"

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
        return uploads_of(chosen, source)

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, with a key, or in a mode that needs none."""
        mode = os.environ.get("WANDB_MODE", "").lower()
        if not cls.is_installed() or mode == "disabled":
            return False
        return mode in OFFLINE or has_key()

    def open(self) -> None:
        """Imports wandb, and looks whether it can do what it is to do."""
        self.uploads = self._uploads_chosen()
        try:
            import wandb
        except ImportError as error:
            raise self.not_installed(error) from error
        mode = self._arguments["mode"] or wandb.setup().settings.mode
        if wandb.run is None and mode not in (*OFFLINE, "disabled") and not has_key():
            raise DeliveryError(
                "wandb has no key: run `wandb login`, set WANDB_API_KEY, or have it write files "
                "that can be sent later, with WANDB_MODE=offline or mode='offline'."
            )

    def secure(self) -> float | None:
        """Vouches for what wandb's own process has had the time to write, and has written since."""
        found = [super().secure(), self._file.written_until()]
        return min((until for until in found if until is not None), default=None)

    def start(self, run: ExperimentRun) -> None:
        """Opens wandb's run, or takes the one that the script has open."""
        import wandb

        if wandb.run is not None and not RUNS.ours(wandb.run):
            self._run, self._is_ours = wandb.run, False
        else:
            self._run, self._is_ours = self._opening.open(run), True
            RUNS.opened(self._run)
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)
        is_online = not (self._run.offline or self._run.disabled)
        url = self._run.url if is_online else None
        folder = Path(self._run.dir).parent
        files = sorted(folder.glob("run-*.wandb")) if self._is_ours else []
        self._file.path = files[0] if files and FLUSHES in wandb.Settings.model_fields else None
        self.found(id=self._run.id, url=url, folder=str(folder))
        log.info(f"wandb: {url or f'the run is in {folder}'}")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Puts them into the run's config."""
        self._run.config.update(plain(params), allow_val_change=True)
        self._file.gave()

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Logs them over the step."""
        self._run.log({**metrics, STEP: step, "_timestamp": time})
        self._file.gave()

    def log_closing(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Puts them into the summary, by the names that they have in the reference."""
        self._run.summary.update({k.removeprefix("train/"): v for k, v in metrics.items()})
        self._file.gave()

    def log_histogram(self, event: Histogram) -> None:
        """Logs it under its tag."""
        import wandb

        counts, edges = list(event.counts), list(event.edges)
        while len(counts) > MAX_BINS:
            counts = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]
            edges = [*edges[0:-1:2], edges[-1]]
        histogram = wandb.Histogram(np_histogram=cast(Any, (counts, edges)))
        self._run.log({event.tag: histogram, STEP: event.step, "_timestamp": event.time})
        self._file.gave()

    def log_artifact(self, event: Artifact) -> None:
        """Logs text as `Html`, an image as `Image`, a table as `Table`, a file as an artifact; how
        the model is built as the first version of it, as in the reference."""
        if event.tag == event.ARCHITECTURE:
            self._log_architecture(event)
        elif event.kind == "file":
            artifact = file_artifact(event, artifact_name(event.tag))
            self._run.log_artifact(artifact, aliases=[f"step-{event.step}", "latest"])
        else:
            with media_of(event) as media:
                self._run.log({event.tag: media, STEP: event.step, "_timestamp": event.time})
        self._file.gave()

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
        self._sending = str(Path(run.dir).parent) if run.url and not run.offline else ""
        run.finish(exit_code=0 if status.succeeded else 1)
        self._sending = ""
        RUNS.finished(run)
        self._file.path = None

    def hurry(self) -> None:
        """Says how to send the rest of a run that the server has not taken by the end."""
        for other in list(self._beside.values()):
            other.hurry()
        if self._sending:
            log.error(
                "wandb: the server has not taken all of the run in time; its file is complete: "
                f"`wandb sync {self._sending}` sends it."
            )

    def _upload(self, folder: Path, aliases: list[str]) -> None:
        assert self.run is not None
        about = {"model/num_parameters": self.run.num_parameters, "folder": folder.name}
        self._run.log_artifact(folder_artifact(folder, self._model, about), aliases=aliases)
        self._file.gave()

    def _log_architecture(self, event: Artifact) -> None:
        assert self.run is not None
        artifact = file_artifact(event, self._model, kind="model")
        artifact.metadata = {
            "model_config": plain(self.run.model_settings),
            "num_parameters": self.run.num_parameters,
            "initial_model": True,
        }
        self._run.log_artifact(artifact, aliases=["base_model"])

    @property
    def _model(self) -> str:
        """The name of the artifact that all versions of the model are of."""
        named = self.run is not None and self.run.name and self._run.name
        return artifact_name(f"model-{self._run.name if named else self._run.id}")
