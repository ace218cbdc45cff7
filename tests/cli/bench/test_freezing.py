"""A frozen process stands still with all that it started, and goes on when it is thawed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepbus.cli.bench import freezing

# Parent and child each write a line, as fast as they can, to a file of their own.
PROGRAM = """
import subprocess, sys, time
name = sys.argv[1]
if len(sys.argv) > 2:
    subprocess.Popen([sys.executable, "-c", sys.argv[2], name + ".child"])
with open(name, "w") as file:
    while True:
        file.write("x")
        file.flush()
        time.sleep(0.001)
"""


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[tuple[int, list[Path]]]:
    """The process id of the parent, and the files of both."""
    files = [tmp_path / "parent", tmp_path / "parent.child"]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(files[0]), PROGRAM])
    try:
        wait_until(lambda: all(size(file) > 0 for file in files))
        yield process.pid, files
    finally:
        children = freezing.descendants(process.pid)
        freezing.thaw([process.pid, *children])
        process.kill()
        process.wait()
        for child in children:
            subprocess.run(["kill", "-9", str(child)], check=False)


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def wait_until(holds: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


@pytest.mark.parametrize("kernel_tells", [True, False])
def test_a_process_and_its_child_stand_still_until_they_are_thawed(
    writers: tuple[int, list[Path]], kernel_tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, files = writers
    if not kernel_tells:
        monkeypatch.setattr(freezing, "_KERNEL_TELLS", Path("/nowhere"))
    frozen = freezing.freeze(pid)
    assert len(frozen) == 2
    assert frozen[0] == pid
    before = [size(file) for file in files]
    time.sleep(0.2)  # in which they would have written some hundred times
    assert [size(file) for file in files] == before
    freezing.thaw(frozen)
    wait_until(lambda: all(size(f) > old for f, old in zip(files, before, strict=True)))


def test_a_process_that_has_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    freezing.thaw(freezing.freeze(process.pid))
