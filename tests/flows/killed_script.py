"""Runs a script as it would run by itself, and kills it with -9 after so many optimizer steps.

Arguments: the number of steps, the script, the script's own arguments.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook


def main() -> None:
    left = int(sys.argv[1])

    def count(*step: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_post_hook(count)
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
