"""What happens: the run, its loop, evaluations, checkpoints, and the model of the demo."""

from .async_host import run_async
from .checkpoint import get_last_checkpoint
from .rng import enable_full_determinism, set_seed
from .schedules import get_scheduler
from .summary import RunSummary
from .training_run import TrainingRun

__all__ = [
    "RunSummary",
    "TrainingRun",
    "enable_full_determinism",
    "get_last_checkpoint",
    "get_scheduler",
    "run_async",
    "set_seed",
]
