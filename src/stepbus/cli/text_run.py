"""Runs a text job in front of somebody: what begins, the run itself, what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..schemas.errors import StepbusError
from ..schemas.text_job_arguments import TextJobArguments
from ..subscribers import CSVHistory, JSONLHistory, LossCurve, Reporter, TensorBoardCallback
from .exit_codes import FAILED, FINISHED, INTERRUPTED, TERMINATED, UNDELIVERED
from .failure import tell
from .text_report import Report, sample_panel

if TYPE_CHECKING:
    from ..engine.text.job import TextJob

LOSS_LABEL = "loss (nats per character)"


def run_text_job(args: TextJobArguments, command: str) -> int:
    """Trains, shows it, sums it up; the exit code.

    Args:
        command: the command line that this run is gone on with, less its flags.

    Raises:
        StepbusError: the input is bad; nothing was written.
    """
    console = Console(highlight=False)
    began = time.perf_counter()
    from ..engine.text.job import TextJob

    job = TextJob(args, callbacks=_histories(args), handle_signals=True)
    report = Report(console, job, command)
    report.opening(left_out())
    before = "" if args.resume_from_checkpoint else job.sample()
    if before:
        console.print(sample_panel("what the untrained model writes", before))
    code = _train(job, report)
    if code is not None:
        return code
    report.closing(before, job.sample(), time.perf_counter() - began)
    return UNDELIVERED if report.undelivered() else FINISHED


def left_out() -> list[str]:
    """What the installed packages do not allow; all of it is in the extra `demo`."""
    names: dict[str, type[Reporter]] = {
        "TensorBoard files": TensorBoardCallback,
        "the loss curve": LossCurve,
    }
    return [name for name, reporter in names.items() if not reporter.is_installed()]


def _histories(args: TextJobArguments) -> list[Any]:
    """The files that every run writes, but those that `report_to` names anyway."""
    named = args.trackers or []
    histories: list[Any] = []
    if "csv" not in named:
        histories.append(CSVHistory())
    if "jsonl" not in named:
        histories.append(JSONLHistory())
    if "loss_curve" not in named and LossCurve.is_installed():
        histories.append(LossCurve(ylabel=LOSS_LABEL))
    return histories


def _train(job: TextJob, report: Report) -> int | None:
    """Trains; the exit code where the run did not come to its end."""
    try:
        job.train()
    except KeyboardInterrupt:
        report.stopped("Ctrl-C")
        return INTERRUPTED
    except SystemExit as stop:
        if stop.code != TERMINATED:
            raise
        report.stopped("SIGTERM")
        return TERMINATED
    except Exception as error:
        if isinstance(error, StepbusError) and not job.started:
            raise
        kind = "" if isinstance(error, StepbusError) else f"{type(error).__name__}: "
        step = job.run.state.global_step
        tell(error, f"the run failed after step {step}: {kind}")
        report.after_failure()
        return FAILED
    return None
