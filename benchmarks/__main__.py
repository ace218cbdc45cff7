"""`python -m benchmarks [--quick] [--json PATH]`: prints what stepbus costs, beside controls."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from . import emit
from .figures import machine, save, show


def main() -> None:
    """Runs the benchmarks and prints their tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(", ".join(f"{name}: {value}" for name, value in machine().items()))
    figures = emit.warm_loop(50 if options.quick else 400)
    show("Emit on the training thread, thread time", figures)
    steps = 400 if options.quick else 3000
    situated = emit.inside_a_step(0.0004, steps, 2.0) + emit.inside_a_step(0.005, steps // 3, 8.0)
    show("One emit inside a real step, wall time", situated)
    if options.json is not None:
        save(options.json, [*figures, *situated])


if __name__ == "__main__":
    main()
