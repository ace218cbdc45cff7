"""What figures were taken on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

CORE = ("torch", "numpy", "pydantic", "anyio")


def machine() -> dict[str, str]:
    """Processor, cores, memory, system, and how busy all of it is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "processor": _processor(),
        "cores": str(cores),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    return {name: fact for name, fact in facts.items() if fact}


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Python, the core and further packages; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in ("stepbus", *CORE, *packages):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return ""
    return f"{size / 2**30:.0f} GiB"
