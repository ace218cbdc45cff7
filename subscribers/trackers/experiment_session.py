"""One run in a tracker: how it begins and how it ends."""

from __future__ import annotations

from pathlib import Path

from ...schemas import InitEnd, RunFailed, TrainBegin, TrainEnd
from ...schemas.errors import UnreachableError
from .experiment_run import RunStatus, run_of_event
from .experiment_values import ExperimentValues
from .kept_checkpoints import KeptCheckpoints
from .known_runs import KnownRuns


class ExperimentSession(ExperimentValues):
    """Opens a run with the hooks, and finishes it with its status."""

    def __init__(self) -> None:
        super().__init__()
        self._training = False
        self._status: RunStatus | None = None
        self._kept = KeptCheckpoints(type(self).__name__)

    def _begin(self, event: InitEnd | TrainBegin, *, again: bool) -> None:
        """Opens the run, unless it is open, and logs its parameters.

        Args:
            event: what begins it.
            again: whether it comes again, for a tracker that takes the place of a dead one.
        """
        if self.run is None or self.run.run_id != event.run_id:
            self._finish()
            known = KnownRuns(Path(event.output_dir), self.tracker_name)
            run = run_of_event(event, known.where(event.run_id))
            self.start(run)
            self._known, self.run = known, run
            self._has_upto = known.newest(event) if again else -1
            known.remember(event.run_id, where=self._found)
        if isinstance(event, TrainBegin):
            self.run = run_of_event(event, self.run.known)
            self._training, self._status = True, None
        self._log_params(self.run)

    def _end(self, event: TrainEnd | RunFailed) -> None:
        self._training = False
        self._status = RunStatus.of(event)
        self._flush()
        if self.uploads == "end" and isinstance(event, TrainEnd) and self._is_new(event):
            self._upload_last(event)
        self._have(event)

    def _upload_last(self, event: TrainEnd) -> None:
        assert self.run is not None
        best = bool(self.run.arguments.get("load_best_model_at_end"))
        folder = self._kept.chosen(self.run.output_dir, best=best)
        if folder is None:
            self.say_once(
                f"{type(self).__name__} was to upload the model at the end, and the run wrote no "
                "checkpoint: choose another save_strategy than 'no'."
            )
        else:
            self.upload_model(folder, event)
        self._kept.let_go()

    def _finish(self) -> None:
        """Closes what is open in the tracker."""
        run, self.run = self.run, None
        self._kept.let_go()
        if run is None:
            return
        status = self._status or RunStatus()
        if self._training:
            status = RunStatus("stopped", "it was left before it had ended")
        self._training, self._status = False, None
        try:
            try:
                self._flush()
            except UnreachableError:
                raise  # Nor would the end be heard.
            except Exception:
                self.finish(status)
                raise
            self.finish(status)
        finally:
            if self._known is not None:
                self._known.close()
