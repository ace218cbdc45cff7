"""For the whole suite: no tracker of this machine takes part, no deadline on a shared CPU."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

SLOW = [
    Path(__file__).parent / name
    for name in (
        "benchmarks",
        "cli",
        "compat",
        "differential",
        "engine/bridges/test_transformers_bridge.py",
        "engine/bridges/test_transformers_ranks.py",
        "engine/bridges/test_transformers_votes.py",
        "engine/test_best_model.py",
        "engine/test_concurrent_votes.py",
        "engine/text",
        "engine/trainer",
    )
]
"""Two trainings a test, over a thousand times, or a process: too much for `make check`."""

# Before any test, and in the environment: programs that tests start inherit it.
os.environ["STEPBUS_REPORT_TO"] = "none"
# transformers imports comet_ml, where it is installed, with itself: a sixth of its seconds.
os.environ.setdefault("COMET_MODE", "DISABLED")
# Threads of two trainings, side by side on few cores, spin for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Ignored where the suite was started in a shell's background; tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("shared-cpu", deadline=None)
settings.load_profile("shared-cpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks whole folders as slow."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in SLOW):
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """With all modules frozen the collection of garbage at the start of each training is quick."""
    gc.freeze()
    try:
        return (yield)
    finally:
        gc.unfreeze()
