"""`stepbus env`: what a bug report needs, and nothing that is nobody's business."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from .exit_codes import FINISHED
from .flags import FlagParser

DESCRIPTION = """\
Prints the versions, devices and extras that a bug report needs. Of the environment it shows a few
named variables only: no tokens, no names of accounts."""

SHOWN_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "STEPBUS_DEBUG",
    "STEPBUS_REPORT_TO",
    "WORLD_SIZE",
)


def main(words: Sequence[str]) -> int:
    """Prints the facts; the exit code."""
    FlagParser("stepbus env", DESCRIPTION).parse(words)
    facts = {
        "stepbus": f"{__version__} ({_home_hidden(Path(__file__).parents[1])})",
        "python": f"{platform.python_version()} {platform.python_implementation()}",
        "platform": platform.platform(),
        "CPUs": _num_cpus(),
        **_torch_facts(),
        **_packages(),
        **{name: os.environ[name] for name in SHOWN_VARIABLES if name in os.environ},
    }
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:{width}}  {fact}")
    return FINISHED


def _num_cpus() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{os.cpu_count()}, {usable} usable"


def _torch_facts() -> dict[str, str]:
    try:
        import torch
    except Exception as error:
        return {"torch": f"cannot be imported ({type(error).__name__}: {error})"}
    kind = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    facts = {"torch": f"{torch.__version__} ({kind}), {torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.cuda.get_device_properties(index)
        facts[f"cuda:{index}"] = f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        facts["mps"] = "available"
    return facts


def _packages() -> dict[str, str]:
    """What stepbus asks for, core first, then each extra as far as it is there."""
    try:
        wanted = importlib.metadata.requires("stepbus") or []
    except importlib.metadata.PackageNotFoundError:
        return {"packages": "stepbus runs from its source tree and is not installed"}
    core: list[str] = []
    extras: dict[str, list[str]] = {}
    for requirement in wanted:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        found = re.search(r"extra == ['\"]([^'\"]+)", requirement)
        if name != "stepbus":
            (extras.setdefault(found[1], []) if found else core).append(name)
    facts = {name: _version(name) for name in core if name != "torch"}
    for extra, names in extras.items():
        if extra != "dev":
            facts[f"[{extra}]"] = ", ".join(f"{name} {_version(name)}" for name in names)
    return facts


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _home_hidden(path: Path) -> str:
    home = str(Path.home())
    text = str(path)
    return f"~{text.removeprefix(home)}" if text.startswith(home + os.sep) else text
