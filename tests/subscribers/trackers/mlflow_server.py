"""A server of MLflow on loopback, one for all tests of a session, and an empty database."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

DEADLINE_S = 100


class MLflowServer(NamedTuple):
    """Where a server listens, and what it writes."""

    port: int
    database: Path
    files: Path

    def ask(self, what: str, **fields: Any) -> Any:
        """A request to it, past all clients of MLflow."""
        url = f"http://127.0.0.1:{self.port}/api/2.0/mlflow/{what}"
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(url, json.dumps(fields).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def serving(folder: Path) -> Iterator[MLflowServer]:
    """A server for all processes of a session: the first starts it, the last stops it.

    Its database, as it is when it has been made, is copied to `empty.db` beside it: to make one
    takes MLflow seconds."""
    with (folder / "users").open("w") as users:
        with _alone(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            started = folder / "started"
            if not started.exists():
                port, pid = _start(folder)
                server = MLflowServer(port, folder / "server.db", folder / "files")
                server.ask("experiments/search", max_results=1)
                with (
                    contextlib.closing(sqlite3.connect(server.database)) as made,
                    contextlib.closing(sqlite3.connect(folder / "empty.db")) as copy,
                ):
                    made.backup(copy)
                started.write_text(f"{port} {pid}")
        port, pid = map(int, started.read_text().split())
        try:
            yield MLflowServer(port, folder / "server.db", folder / "files")
        finally:
            with _alone(folder), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.kill(pid, signal.SIGTERM)
                _wait_until(lambda: not _answers(port), folder)


def _start(folder: Path) -> tuple[int, int]:
    """Starts the application that `mlflow server` runs, in one process of uvicorn's: those around
    it take longer to start than the tests. Its port and its id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["uvicorn", "mlflow.server.fastapi_app:app", "--host", "127.0.0.1", "--port", str(port)]
    environ = {
        **_environ(folder),
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'server.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "files"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    # By a shell that goes: the process is nobody's child, and may outlive the one that started it.
    shell = ["sh", "-c", f'"$@" > {folder}/server.log 2>&1 < /dev/null & echo $!', "sh"]
    told = subprocess.run(
        [*shell, sys.executable, "-m", *words],
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    _wait_until(lambda: _answers(port), folder)
    return port, int(told.stdout)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except OSError:
        return False
    return True


def _wait_until(true: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, (folder / "server.log").read_text()
        time.sleep(0.1)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps the other processes of the session out."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _environ(home: Path) -> dict[str, str]:
    return {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(home)}
