"""What a script asks the arguments about the process: the device, its rank, its log level."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from .argument_choices import LOG_LEVELS
from .machine import ParallelMode, default_device
from .strategies import steps_of


class ProcessFacts:
    """The read-only side of the arguments: one process, on one device."""

    per_device_train_batch_size: int
    per_device_eval_batch_size: int
    warmup_steps: float
    bf16: bool
    fp16: bool
    use_cpu: bool
    ddp_timeout: int
    log_level: str
    log_level_replica: str
    report_to: None | str | list[str]  # noqa: RUF036 - as the field declares it

    @property
    def device(self) -> Any:
        """The `torch.device` to train on: the first GPU, unless `use_cpu`."""
        return default_device(self.use_cpu)

    @property
    def n_gpu(self) -> int:
        """Accelerators in use: 1, or 0 on the CPU."""
        return 0 if self.device.type == "cpu" else 1

    @property
    def world_size(self) -> int:
        """Processes that train together: 1."""
        return 1

    @property
    def process_index(self) -> int:
        """Number of this process among all: 0."""
        return 0

    @property
    def local_process_index(self) -> int:
        """Number of this process on its machine: 0."""
        return 0

    @property
    def parallel_mode(self) -> ParallelMode:
        """How the run is spread out: not at all."""
        return ParallelMode.NOT_PARALLEL

    @property
    def should_log(self) -> bool:
        """Whether this process logs: the only one does."""
        return self.process_index == 0

    @property
    def should_save(self) -> bool:
        """Whether this process writes checkpoints: the only one does."""
        return self.process_index == 0

    @property
    def place_model_on_device(self) -> bool | None:
        """Whether the model is moved to `device`; None leaves it to the `Trainer`.

        A subclass may override it.
        """
        return None

    @property
    def mixed_precision(self) -> str:
        """The format of autocast: `no`, `fp16` or `bf16`."""
        if self.fp16:
            return "fp16"
        return "bf16" if self.bf16 else "no"

    @property
    def ddp_timeout_delta(self) -> timedelta:
        """`ddp_timeout` as a span of time."""
        return timedelta(seconds=self.ddp_timeout)

    @property
    def trackers(self) -> list[str] | None:
        """The names in `report_to`; None for those that are set up."""
        names = self.report_to
        return [names] if isinstance(names, str) else names

    @property
    def train_batch_size(self) -> int:
        """Samples in a micro-batch over all devices of this process."""
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        """Samples in a batch of an evaluation over all devices of this process."""
        return self.per_device_eval_batch_size

    def get_process_log_level(self) -> int:
        """The level of this process's loggers, as `logging` counts.

        `passive` means the one that transformers' loggers have, WARNING unless it was set.
        """
        level = LOG_LEVELS[self.log_level if self.should_log else self.log_level_replica]
        if level >= 0:
            return level
        return logging.getLogger("transformers").getEffectiveLevel()

    @contextmanager
    def main_process_first(self, local: bool = True, desc: str = "work") -> Iterator[None]:
        """Lets the main process do some work before all others: here it is the only one.

        Args:
            local: first on each machine rather than first of all.
            desc: what the work is.
        """
        yield

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Warm-up steps of a run of `num_training_steps` steps."""
        return steps_of(self.warmup_steps, num_training_steps)
