"""`python -m benchmarks [PART...] [--quick] [--report DIR]`: what stepbus costs, beside peers."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from stepbus.cli.bench.machine import machine, versions

from . import bridges, cuda, emit, engines, growth, hostile, hosts, throughput, uploads, whole
from .part import Part, Tell
from .report import PEERS, kept, markdown, write

PARTS: dict[str, Callable[[bool, Tell], Part]] = {
    "emit": emit.run,
    "engines": engines.run,
    "whole": whole.run,
    "bridges": bridges.run,
    "hostile": hostile.run,
    "uploads": uploads.run,
    "throughput": throughput.run,
    "growth": growth.run,
    "hosts": hosts.run,
    "cuda": cuda.run,
}


def main() -> None:
    """Runs the parts, prints their report, and writes it with its charts if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="three minutes instead of an hour")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write report.md, report.json and charts here; other parts of a report that is there, "
        "of this machine and these packages, are kept",
    )
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}: there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    begun_s = time.monotonic()

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - begun_s:5.0f} s] {text}", file=sys.stderr, flush=True)

    names = [name for name in PARTS if name in (options.names or PARTS)]
    parts = kept(options.report, quick=options.quick, renewed=names) if options.report else []
    failed = False
    for name in names:
        run, started, load = PARTS[name], time.monotonic(), os.getloadavg()[0]
        try:
            part = run(options.quick, tell)
        except Exception as error:
            # An hour of other parts is not thrown away for it.
            failed = True
            traceback.print_exc()
            part = Part(name, name.capitalize(), gaps=[f"the part failed: {error}"])
        part.seconds, part.load = time.monotonic() - started, load
        parts.append(part)
        parts.sort(key=lambda part: list(PARTS).index(part.name))
        if options.report is not None:
            paths = write(options.report, parts, quick=options.quick)
    if options.report is None:
        print(markdown(parts, machine(), versions(PEERS), quick=options.quick, charts={}))
    else:
        print(*paths, sep="\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
