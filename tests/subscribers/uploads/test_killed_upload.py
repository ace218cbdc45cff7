"""A run that is killed with its sidecar in mid-upload, and goes on: what is missing is sent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stepbus import latest_upload
from tests.subscribers.uploads import training
from tests.subscribers.uploads.bucket import Request, S3Server
from tests.subscribers.uploads.conftest import local_files

pytestmark = pytest.mark.slow

DEADLINE_S = 100


def start(out: Path, address: str, s3: S3Server, how: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-W", "error", training.__file__]
    return subprocess.Popen(
        [*program, str(out), address, json.dumps(s3.options), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


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
    first = start(out, address, s3, "anew")
    try:
        assert reached.wait(DEADLINE_S)
        for pid in [first.pid, *children_of(first.pid)]:
            os.kill(pid, signal.SIGKILL)
    finally:
        first.kill()
        said, _ = first.communicate(timeout=DEADLINE_S)
        killed.set()
        s3.before = lambda request: None
    assert first.returncode == -signal.SIGKILL, said
    half = remote_files(address, **s3.options)
    there = {path for path in half if path.startswith("checkpoint-2/")}
    assert "checkpoint-2/UPLOADING.json" in there
    assert "checkpoint-2/model.safetensors" in there
    assert "checkpoint-2/run.json" not in there
    assert latest_upload(address, storage_options=s3.options) == f"{address}/checkpoint-1"
    # What it was about to write when it was killed is there whole, or not at all.
    before = {path.name: local_files(path) for path in out.glob("checkpoint-*")}
    s3.requests.clear()

    second = start(out, address, s3, "resume")
    try:
        said, _ = second.communicate(timeout=DEADLINE_S)
    finally:
        second.kill()
    assert second.returncode == 0, said
    assert "not uploaded" not in said
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
