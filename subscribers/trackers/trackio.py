"""Logs to Trackio: its local database, a server of one's own, or a Space."""

from __future__ import annotations

import contextlib
import contextvars
import io
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qs

from ...bus.diagnostics import get_logger
from ...bus.sidecar.trainer import trainer_pid
from ...schemas import Artifact, Histogram
from ...schemas.errors import ArgumentError, DeliveryError, UnreachableError
from .experiment import ExperimentTracker
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus, plain
from .trackio_artifacts import file_artifact, media_of

log = get_logger()

PROJECT = "huggingface"
"""Where neither the caller nor the arguments name one, as in the reference."""
STEP = "train/global_step"
REQUEST_TIMEOUT_S = 5.0
"""For a server to answer; what it has not answered is kept and sent again."""
ROWS_A_REQUEST = 500
NO_LOGIN = (
    "Trackio's Space {space!r} needs a login to Hugging Face and cannot work offline: run `hf auth "
    "login` or set HF_TOKEN; without trackio_space_id and TRACKIO_SPACE_ID the run is kept here."
)


class TrackioCallback(ExperimentTracker):
    """Logs to a run of Trackio, at the step and, in a database here, the time of each event.

    The run's id is stepbus's own, so that an evaluation after the training, another attempt and a
    replaced process go on with it, and two runs of one name stay two. Each row has an id made of
    what it is, which Trackio takes once. Closing figures are values at the last step. Trackio's
    own variables are obeyed where an argument is not given. A run that the script has open is
    used, and left open.

    Args:
        project: otherwise the arguments' `project`, "huggingface".
        name: the run's name; by default `run_name`, or that of its trial.
        group: what the run belongs to; by default what a trial's search is called.
        space_id: the Space that shows the run; otherwise the arguments' `trackio_space_id`, else
            TRACKIO_SPACE_ID. Needs a login.
        server_url: a server of one's own, with its write token; otherwise TRACKIO_SERVER_URL, and
            TRACKIO_WRITE_TOKEN.
        bucket_id: the bucket of the Space; otherwise the arguments' `trackio_bucket_id`.
        private: of a Space that is made; otherwise the arguments' `hub_private_repo`.
        auto_log_gpu: logs the use of the GPU; by default where there is one.
        auto_log_cpu: logs the use of the CPU; by default where psutil is installed.

    Raises:
        ArgumentError: the address of the server is none, or has no token; in `check()`, `open()`.
        DeliveryError: in `open()`: trackio is not installed, the server does not answer or does not
            take the token, or there is no login for the Space.
    """

    tracker_name: ClassVar[str] = "trackio"
    package: ClassVar[str] = "trackio"
    extra: ClassVar[str] = "trackio"
    modules: ClassVar[tuple[str, ...]] = ("trackio",)
    set_up_by: ClassVar[str] = "TRACKIO_DIR, TRACKIO_SERVER_URL or TRACKIO_SPACE_ID"

    def __init__(
        self,
        *,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        space_id: str | None = None,
        server_url: str | None = None,
        bucket_id: str | None = None,
        private: bool | None = None,
        auto_log_gpu: bool | None = None,
        auto_log_cpu: bool | None = None,
    ) -> None:
        super().__init__()
        self._arguments: dict[str, Any] = {
            "project": project,
            "name": name,
            "group": group,
            "space_id": space_id,
            "server_url": server_url,
            "bucket_id": bucket_id,
            "private": private,
            "auto_log_gpu": auto_log_gpu,
            "auto_log_cpu": auto_log_cpu,
        }
        self._scripts_run: Any = None
        self._run: Any = None
        self._client: Any = None
        """Of a server of one's own."""
        self._static: str | bool | None = None
        self._rows: list[dict[str, Any]] = []
        self._config_due = False
        self._last_step = 0

    def made_with(self) -> dict[str, Any] | None:
        """Its arguments; None for one that uses the script's run, which stays in its process."""
        return dict(self._arguments)

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, and told where to log."""
        names = ("DIR", "SERVER_URL", "SPACE_ID")
        return cls.is_installed() and any(os.environ.get(f"TRACKIO_{name}") for name in names)

    def why_here(self) -> str:
        """A run that the script has open can only be found in the script's own thread."""
        why = super().why_here()
        self._scripts_run = _open_in_this_thread()
        if self._scripts_run is None:
            return why
        return why or "the script has a run of trackio open."

    def check(self, args: object) -> None:
        """Refuses what cannot work.

        Raises:
            ArgumentError: the server's address is none, or has no token.
            DeliveryError: a Space is asked for, and there is no login.
        """
        space = self._space(getattr(args, "trackio_space_id", None))
        if space and self._scripts_run is None:
            _require_login(space)
        elif not space:
            self._server()

    def open(self) -> None:
        """Imports trackio, and sees whether its server answers."""
        try:
            import trackio  # noqa: F401
        except ImportError as error:
            raise self.not_installed(error) from error
        server = self._server()
        if server is None or self._space(None) or self._scripts_run is not None:
            return
        try:
            self._client = _client_of(*server)
            # Nothing, which it takes from those alone that may write.
            self._client.predict(api_name="/bulk_log", logs=[], hf_token=None)
        except Exception as error:
            raise DeliveryError(
                f"The Trackio server at {server[0]} cannot be used ({type(error).__name__}: "
                f"{_short(error)}): start it, or change TRACKIO_SERVER_URL."
            ) from error

    def start(self, run: ExperimentRun) -> None:
        """Opens the run that is to go on, or a new one."""
        if self._scripts_run is not None:
            self._run = self._scripts_run
        else:
            self._run = self._new_run(run)
            self._run.id = run.known.get("id") or run.run_id or self._run.id
        space, server = self._run._space_id, self._run._server_base_url
        url = f"https://huggingface.co/spaces/{space}" if space else server
        self._static = run.arguments.get("trackio_static_space_id")
        folder = _folder() if not url else None
        self.found(id=self._run.id, name=self._run.name, url=url, folder=folder)
        where = url or f"in {folder}: trackio show --project {self._run.project}"
        log.info(f"trackio: the run {self._run.name} is {where}")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Puts them into the run's config."""
        assert self.run is not None
        self._run.config.update(plain(self.run.params))
        self._config_due = True

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Collects them for the next batch."""
        self._last_step = max(self._last_step, step)
        self._collect({**metrics, STEP: step}, step=step, time=time)

    def log_histogram(self, event: Histogram) -> None:
        """Logs it under its tag."""
        import trackio

        histogram = trackio.Histogram(np_histogram=(list(event.counts), list(event.edges)))
        self._log_object(event.tag, histogram, event.step)

    def log_artifact(self, event: Artifact) -> None:
        """Logs a text as Markdown, an image and a table as Trackio's, a file as an artifact."""
        if event.kind == "file":
            with self._quiet(), file_artifact(event) as artifact:
                self._run.log_artifact(artifact, aliases=[f"step-{event.step}"])
            return
        with media_of(event) as media:
            self._log_object(event.tag, media, event.step)

    def flush(self) -> None:
        """Writes or sends what was collected; what is not answered is kept."""
        while self._rows:
            batch = self._rows[:ROWS_A_REQUEST]
            if self._config_due:
                batch[0]["config"] = dict(self._run.config)
            try:
                self._hand_on(batch)
            except UnreachableError as error:
                steps = f"steps {self._rows[0]['step']} to {self._rows[-1]['step']}"
                raise UnreachableError(
                    f"{error}; {len(self._rows)} rows of {steps} are not delivered"
                ) from error
            except Exception:
                del self._rows[: len(batch)]
                raise
            del self._rows[: len(batch)]
            self._config_due = False

    def finish(self, status: RunStatus) -> None:
        """Writes the status, and waits for what trackio's own threads have."""
        told = {f"stepbus/{name}": text for name, text in status.told().items()}
        self._run.config.update(told)
        self._config_due = True
        now = datetime.now(UTC).timestamp()
        self._collect({**told, STEP: self._last_step}, step=self._last_step, time=now)
        run = self._run
        if run is not self._scripts_run:
            with self._quiet():
                run.finish()
                if run._space_id and self._static is not False:
                    self._freeze(run)
        self.flush()  # After what trackio's own thread writes, which has an earlier config.
        self._run = None

    def _new_run(self, run: ExperimentRun) -> Any:
        import trackio

        given, arguments = self._arguments, run.arguments
        chosen = {
            "project": given["project"] or arguments.get("project") or PROJECT,
            "name": run.known.get("name") or given["name"] or run.name,
            "group": given["group"] or run.group,
            "space_id": self._space(arguments.get("trackio_space_id")),
            "server_url": given["server_url"],
            "bucket_id": given["bucket_id"] or arguments.get("trackio_bucket_id"),
            "private": given["private"]
            if given["private"] is not None
            else arguments.get("hub_private_repo"),
            "auto_log_gpu": given["auto_log_gpu"],
            "auto_log_cpu": given["auto_log_cpu"],
            "embed": False,
        }
        scripts = trackio.config
        try:
            with self._quiet():
                # In a context of its own: it ends the run that is open in the context it is in.
                return contextvars.Context().run(lambda: trackio.init(**chosen))
        finally:
            trackio.config = scripts

    def _collect(self, values: Mapping[str, Any], *, step: int, time: float) -> None:
        if self._run._space_id:
            # Not there for minutes, when it is new: trackio keeps what it has not had.
            self._run.log(dict(values), step=step)
            return
        what = f"{self._run.id} {step} {time!r} {sorted(values)}"
        self._rows.append(
            {
                "project": self._run.project,
                "run": self._run.name,
                "run_id": self._run.id,
                "metrics": _named(values),
                "step": step,
                "config": None,
                "timestamp": datetime.fromtimestamp(time, UTC).isoformat(),
                "log_id": uuid.uuid5(uuid.NAMESPACE_OID, what).hex,
            }
        )
        self.collected()

    def _log_object(self, tag: str, value: Any, step: int) -> None:
        self._last_step = max(self._last_step, step)
        with self._quiet():
            self._run.log({tag: value, STEP: step}, step=step)

    def _hand_on(self, rows: list[dict[str, Any]]) -> None:
        from trackio.remote_client import is_transient_remote_error

        try:
            if self._run._server_base_url:
                if self._client is None:
                    self._client = _client_of(self._run._server_base_url, self._run._write_token)
                self._client.predict(api_name="/bulk_log", logs=rows, hf_token=None)
            else:
                _store(rows)
        except Exception as error:
            if is_transient_remote_error(error) or type(error).__name__ == "OperationalError":
                raise UnreachableError(f"Trackio does not answer: {_short(error)}") from error
            raise

    def _freeze(self, run: Any) -> None:
        import trackio

        chosen = self._static if isinstance(self._static, str) else None
        name = chosen or f"{run._space_id}-static-{run.id[:6]}"
        try:
            trackio.freeze(run._space_id, run.project, new_space_id=name)
        except Exception as error:
            self.say_once(
                f"trackio: the static Space {name} could not be made ({_short(error)}); "
                "trackio_static_space_id=False makes none."
            )

    def _space(self, of_arguments: str | None) -> str | None:
        given = self._arguments
        if given["server_url"]:
            return None
        return given["space_id"] or of_arguments or os.environ.get("TRACKIO_SPACE_ID") or None

    def _server(self) -> tuple[str, str] | None:
        """Address and token of the server of one's own, where there is one."""
        source = "server_url" if self._arguments["server_url"] else "TRACKIO_SERVER_URL"
        url = self._arguments["server_url"] or os.environ.get("TRACKIO_SERVER_URL")
        if not url or self._space(None):
            return None
        if not url.startswith(("http://", "https://")):
            raise ArgumentError(f"{source} is {url!r}: it must begin with http:// or https://.")
        address, _, query = url.partition("?")
        tokens = parse_qs(query).get("write_token") or [os.environ.get("TRACKIO_WRITE_TOKEN")]
        token = tokens[0]
        if not token:
            raise ArgumentError(
                f"{source} is {address!r} without a write token: give the address that "
                "`trackio show` prints for writing, or set TRACKIO_WRITE_TOKEN."
            )
        return address, token

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Nobody reads what it prints in the sidecar; in the script's process others print too."""
        if trainer_pid() is None:
            yield
            return
        with contextlib.redirect_stdout(io.StringIO()):
            yield


def _open_in_this_thread() -> Any:
    module = sys.modules.get("trackio.context_vars")
    return module.current_run.get() if module is not None else None


def _require_login(space: str) -> None:
    from huggingface_hub import get_token

    if not get_token():
        raise DeliveryError(NO_LOGIN.format(space=space))


def _client_of(address: str, token: str) -> Any:
    from trackio.remote_client import RemoteClient

    limits = {"timeout": REQUEST_TIMEOUT_S}
    return RemoteClient(address, write_token=token, httpx_kwargs=limits)


def _store(rows: list[dict[str, Any]]) -> None:
    """Writes rows of one run to the database here, or, where a file system cannot lock, to files
    that Trackio reads into it later; of a row that is there already, nothing."""
    from trackio.fragments import FragmentWriter, metric_record
    from trackio.sqlite_storage import SQLiteStorage
    from trackio.utils import get_storage_mode

    if get_storage_mode() == "jsonl":
        FragmentWriter().write_local([metric_record(row) for row in rows])
        return
    SQLiteStorage.bulk_log(
        project=rows[0]["project"],
        run=rows[0]["run"],
        run_id=rows[0]["run_id"],
        metrics_list=[row["metrics"] for row in rows],
        steps=[row["step"] for row in rows],
        timestamps=[row["timestamp"] for row in rows],
        log_ids=[row["log_id"] for row in rows],
        config=next((row["config"] for row in rows if row["config"]), None),
    )


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """With names that are columns of Trackio's own set apart, as it does itself, and values that
    are no JSON as it writes them."""
    from trackio import utils

    written: Any = utils.serialize_values
    apart = {
        f"__{k}" if k in utils.RESERVED_KEYS or k[:2] == "__" else k: v for k, v in values.items()
    }
    return dict(written(apart))


def _folder() -> str:
    from trackio.utils import TRACKIO_DIR

    return str(TRACKIO_DIR)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else f"{text[:300]} ..."
