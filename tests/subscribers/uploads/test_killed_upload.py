"""A run that is killed with its sidecar in mid-upload, and goes on: what is missing is sent."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepbus import latest_upload
from tests.subscribers.uploads import training
from tests.subscribers.uploads.bucket import Request, S3Server
from tests.subscribers.uploads.conftest import local_files
from tests.subscribers.uploads.hub_server import Asked, HubServer

pytestmark = pytest.mark.slow

DEADLINE_S = 100


def start(out: Path, address: str, options: dict[str, Any], how: str) -> subprocess.Popen[str]:
    # huggingface_hub is warned by httpx2 of how it sends a file.
    warnings = ["-W", "error"] if options else []
    program = [sys.executable, *warnings, training.__file__]
    return subprocess.Popen(
        [*program, str(out), address, json.dumps(options), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def kill_once(
    program: subprocess.Popen[str], reached: threading.Event, killed: threading.Event
) -> None:
    """Kills a training and its sidecar when something has been reached."""
    try:
        assert reached.wait(DEADLINE_S)
        for pid in [program.pid, *children_of(program.pid)]:
            os.kill(pid, signal.SIGKILL)
    finally:
        program.kill()
        said, _ = program.communicate(timeout=DEADLINE_S)
        killed.set()
    assert program.returncode == -signal.SIGKILL, said


def finish(program: subprocess.Popen[str]) -> None:
    try:
        said, _ = program.communicate(timeout=DEADLINE_S)
    finally:
        program.kill()
    assert program.returncode == 0, said
    assert "not uploaded" not in said


def test_what_was_cut_off_is_completed_and_nothing_is_sent_twice(
    tmp_path: Path,
    s3: S3Server,
    bucket: str,
    remote_files: Callable[..., dict[str, bytes]],
) -> None:
    out, address = tmp_path / "out", f"s3://{bucket}/run"
    reached, killed = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        if request.method == "PUT" and request.path.endswith("checkpoint-2/run.json"):
            reached.set()
            killed.wait(DEADLINE_S)
            raise ConnectionResetError

    s3.before = hold
    first = start(out, address, s3.options, "anew")
    kill_once(first, reached, killed)
    s3.before = lambda request: None
    half = remote_files(address, **s3.options)
    there = {path for path in half if path.startswith("checkpoint-2/")}
    assert "checkpoint-2/UPLOADING.json" in there
    assert "checkpoint-2/model.safetensors" in there
    assert "checkpoint-2/run.json" not in there
    assert latest_upload(address, storage_options=s3.options) == f"{address}/checkpoint-1"
    # What it was about to write when it was killed is there whole, or not at all.
    before = {path.name: local_files(path) for path in out.glob("checkpoint-*")}
    s3.requests.clear()

    finish(start(out, address, s3.options, "resume"))
    files = remote_files(address, **s3.options)
    for name in ("checkpoint-1", "checkpoint-2", "checkpoint-3"):
        found = {path: files[f"{name}/{path}"] for path in local_files(out / name)}
        assert found == local_files(out / name)
    puts = s3.of("PUT", bucket)
    assert not [path for path in puts if "checkpoint-1/" in path]
    if "checkpoint-3" not in before:
        # It went on from checkpoint-2, which was as it had been.
        assert "run/checkpoint-2/model.safetensors" not in puts
        assert "run/checkpoint-2/run.json" in puts
    assert latest_upload(address, storage_options=s3.options) == f"{address}/checkpoint-3"


def test_a_push_that_was_cut_off_has_left_nothing_and_is_made_by_the_next_attempt(
    tmp_path: Path, hub: HubServer
) -> None:
    out = tmp_path / "out"
    reached, killed = threading.Event(), threading.Event()

    def hold(asked: Asked) -> None:
        if asked.path.endswith("/commit/main") and len(hub.commits("model")) == 1:
            reached.set()
            killed.wait(DEADLINE_S)
            raise ConnectionResetError

    hub.before = hold
    kill_once(start(out, "hub:model", {}, "anew"), reached, killed)
    hub.before = lambda asked: None
    assert hub.files("model", under="checkpoint-1/") == local_files(out / "checkpoint-1")
    assert not hub.files("model", under="checkpoint-2/"), "all of it or none"
    weights = (out / "checkpoint-2" / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in hub.stored, "it has arrived, and belongs nowhere"
    before = {path.name for path in out.glob("checkpoint-*")}
    hub.requests.clear()

    finish(start(out, "hub:model", {}, "resume"))
    for name in ("checkpoint-1", "checkpoint-2", "checkpoint-3"):
        assert hub.files("model", under=f"{name}/") == local_files(out / name)
    assert hub.files("model")["model.safetensors"] == (
        (out / "checkpoint-3" / "model.safetensors").read_bytes()
    )
    if "checkpoint-3" not in before:
        # It went on from checkpoint-2, which was as it had been.
        assert hashlib.sha256(weights).hexdigest() not in hub.sent(), "nothing is sent twice"
