"""`python -m benchmarks [NAME...] [--quick] [--json PATH]`: what stepbus costs, beside controls."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from . import emit, engines
from .figures import Figure, machine, save, show


def _emit(quick: bool) -> list[Figure]:
    figures = emit.warm_loop(50 if quick else 400)
    show("Emit on the training thread, thread time", figures)
    steps = 400 if quick else 3000
    situated = emit.inside_a_step(0.0004, steps, 2.0) + emit.inside_a_step(0.005, steps // 3, 8.0)
    show("One emit inside a real step, wall time", situated)
    return [*figures, *situated]


def _engines(quick: bool) -> list[Figure]:
    report = engines.run(quick)
    show("Whole loop, nothing attached: wall time of a step to that of a raw one", report.ratios)
    show("The same, wall time that a step has more", report.wall)
    show("The same, time on a core that the training thread has more", report.cpu)
    return [*report.ratios, *report.wall, *report.cpu]


BENCHMARKS: dict[str, Callable[[bool], list[Figure]]] = {"emit": _emit, "engines": _engines}


def main() -> None:
    """Runs the benchmarks and prints their tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    torch.set_num_threads(1)
    figures: list[Figure] = []
    for name, benchmark in BENCHMARKS.items():
        if name in (options.names or BENCHMARKS):
            print(", ".join(f"{key}: {value}" for key, value in machine().items()))
            figures += benchmark(options.quick)
    if options.json is not None:
        save(options.json, figures)


if __name__ == "__main__":
    main()
