"""What a run says happened: one class an event, each frozen."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import BeforeValidator, Field

from .artifact_values import Data, Row, Rows, table_from_json, table_to_json
from .event import Event
from .values import FrozenDict, Plain, Scalars
from .vote import Action, Vote


def _or_empty(value: object) -> object:
    return () if value is None else value


class HoldsFolder(Protocol):
    """What a `Save` event says of its lease; `stepbus.Lease` is one."""

    def hold(self, holder: str) -> AbstractContextManager[None]:
        """Keeps the folder for the length of a with block."""


class TrainingEvent(Event):
    """The base of the events that the engine emits. A run, with each event at its place:

        Trainer() or TrainingRun()                     init_end
        train                                          train_begin
          (eval_on_start)                              [EVALUATE]
          each epoch                                   epoch_begin
            each optimizer step                        step_begin
              each micro-batch but the last            substep_end
              the last: gradients are clipped          pre_optimizer_step
                        the optimizer has stepped      optimizer_step
                        global_step is one higher      step_end
              votes are merged                         [ACT]
                                                       epoch_end, votes are merged, [ACT]
          mailboxes are drained, votes merged once more
                                                       log (the summary), train_end
        an exception leaves train                      run_failed (instead of train_end)

        [ACT], in this order, each at most once a round:
            log                                        log
            evaluate                                   [EVALUATE]
            save                                       push_begin (to the Hub), save
        [EVALUATE]
            each batch                                 prediction_step
                                                       log, evaluate
        predict                                        prediction_step ..., predict

    At any time: `verdict` (somebody's vote was acted on or refused), `subscriber_failed`,
    `subscriber_behind`, `stalled` and `resumed` (no step ended for long, and it goes on),
    `batch_size_retry`, `optimizer_step_skipped` (fp16), `non_finite` (a loss or gradient norm is
    NaN or infinite), `histogram` and `artifact` (after the step in which they were logged; outside
    of steps an artifact comes at once).
    """


class InitEnd(TrainingEvent):
    """The run has been set up: a training, or an evaluation, prediction or log outside of one."""

    name: Literal["init_end"] = "init_end"
    run_name: str | None = None
    """What people call the run."""
    output_dir: str = ""
    """The folder of checkpoints, logs and votes."""
    logging_dir: str | None = None
    """The folder that trackers which write files were told to use."""
    arguments: Plain = FrozenDict()
    """The training arguments, secrets masked."""
    model: str = ""
    """Class name of the model."""
    num_parameters: int = 0
    """Parameters of the model, each counted once."""
    model_settings: Plain = FrozenDict()
    """The model's own configuration, where it has one, secrets masked."""


class TrainBegin(TrainingEvent):
    """Training starts; set-up of everything that listens is done."""

    name: Literal["train_begin"] = "train_begin"
    arguments: Plain = FrozenDict()
    """The training arguments, secrets masked."""
    run_name: str | None = None
    """What people call the run."""
    output_dir: str = ""
    """The folder of checkpoints, logs and votes."""
    model: str = ""
    """Class name of the model."""
    num_parameters: int = 0
    """Parameters of the model, each counted once."""
    model_settings: Plain = FrozenDict()
    """The model's own configuration, where it has one, secrets masked."""
    max_steps: int = 0
    """Optimizer steps that the run has."""
    num_train_epochs: float = 0.0
    """Epochs that the run has."""
    steps_per_epoch: int = 0
    """Optimizer steps in an epoch; 0 where the length is unknown."""
    resumed_from: str | None = None
    """The checkpoint that this attempt continues."""
    reporting: str = ""
    """Which trackers are attached, and why the others are not; empty where none was considered."""


class TrainEnd(TrainingEvent):
    """Training ended as it should: it was done, or it was stopped by a vote."""

    name: Literal["train_end"] = "train_end"
    status: Literal["finished", "stopped"] = "finished"
    reason: str = ""
    """Why it was stopped."""
    stopped_by: str = ""
    """The voters that stopped it."""
    metrics: Scalars = FrozenDict()
    """The closing figures (`train_runtime`, `train_loss`, ...)."""


class RunFailed(TrainingEvent):
    """An exception left the training loop."""

    name: Literal["run_failed"] = "run_failed"
    error: str
    """Class name of the exception."""
    message: str
    """Its text."""
    traceback: str
    """Its traceback."""


class EpochBegin(TrainingEvent):
    """An epoch starts."""

    name: Literal["epoch_begin"] = "epoch_begin"


class EpochEnd(TrainingEvent):
    """An epoch ended, cut short or not."""

    name: Literal["epoch_end"] = "epoch_end"


class StepBegin(TrainingEvent):
    """The first micro-batch of an optimizer step was loaded."""

    name: Literal["step_begin"] = "step_begin"


class SubstepEnd(TrainingEvent):
    """A micro-batch that does not close its step went backward."""

    name: Literal["substep_end"] = "substep_end"


class PreOptimizerStep(TrainingEvent):
    """Gradients are complete and clipped; the optimizer steps next."""

    name: Literal["pre_optimizer_step"] = "pre_optimizer_step"


class OptimizerStep(TrainingEvent):
    """The optimizer has stepped; the scheduler has not."""

    name: Literal["optimizer_step"] = "optimizer_step"


class OptimizerStepSkipped(TrainingEvent):
    """The gradient scaler skipped the optimizer's step, since gradients had overflown."""

    name: Literal["optimizer_step_skipped"] = "optimizer_step_skipped"
    loss_scale: float
    """The scale that was too large; the next steps use a smaller one."""


class StepEnd(TrainingEvent):
    """An optimizer step is done."""

    name: Literal["step_end"] = "step_end"
    loss: float | None = None
    """Loss of the step as the loop gave it."""
    grad_norm: float | None = None
    """Norm of the gradients before clipping, where the loop gave it."""
    learning_rate: float | None = None
    """Learning rate that the step used."""
    step_s: float = 0.0
    """From the end of the step before to the end of this one, s, actions left out."""
    data_wait_s: float = 0.0
    """Of that, spent waiting for the data loader, s."""
    bus_s: float = 0.0
    """Of that, spent in stepbus and in gate handlers, s."""


class NonFinite(TrainingEvent):
    """A step's loss or gradient norm was NaN or infinite.

    Said at the first such step after one without, and at the second, fourth, eighth ... in a row.
    Values of a device are looked at once they have arrived: one or two steps later, unless the
    device lags further behind.
    """

    name: Literal["non_finite"] = "non_finite"
    value: Literal["loss", "grad_norm"]
    """What was not finite."""
    number: float
    """What it was: NaN, or an infinity."""
    at_step: int
    """The step that it belongs to; `step` is the one at which it was noticed."""
    count: int = 1
    """How many steps of this attempt had such a value so far."""
    in_a_row: int = 1
    """How many of them without one between."""


class Log(TrainingEvent):
    """Values to log."""

    name: Literal["log"] = "log"
    logs: Scalars
    """The values by name: `loss`, `grad_norm`, `learning_rate`, `epoch`, those of `run.log`, or
    the metrics of an evaluation."""


class Histogram(TrainingEvent):
    """How the values of a tensor are spread (`run.log_histogram`); those with one tag in a step
    are counted together.

    Bin n holds the values from `edges[n]` up to `edges[n + 1]`. Edges are fixed, four to a factor
    of two; bins without values at both ends are left out. What never came from the device is empty
    or None, and named in `unresolved`.
    """

    name: Literal["histogram"] = "histogram"
    tag: str
    """What was counted."""
    num: int = 0
    """Values, those that are not finite among them."""
    edges: Annotated[tuple[float, ...], BeforeValidator(_or_empty)] = ()
    """Where the bins begin, and where the last one ends: one more than there are counts."""
    counts: Annotated[tuple[int, ...], BeforeValidator(_or_empty)] = ()
    """Finite values in each bin."""
    sum: float | None = None
    """Of the finite values."""
    sum_of_squares: float | None = None
    """Of the finite values."""
    min: float | None = None
    """The least finite value; NaN without any."""
    max: float | None = None
    """The largest finite value; NaN without any."""
    num_nan: int | None = None
    """Values that are NaN."""
    num_inf: int | None = None
    """Values that are infinite."""


class Artifact(TrainingEvent):
    """Something to keep beside the numbers: text, an image, a table or a file.

    From `run.log_text`, `log_image`, `log_table` and `log_file`. What is small is in the event: the
    `text`, the `columns` and `rows`, or the `data` of an image. All else is a file, at `path`.
    `read`, `read_text` and `read_table` give it wherever it is.
    """

    ARCHITECTURE: ClassVar[str] = "model_architecture"
    """The tag of the text that tells how a model is built, as it prints itself."""

    name: Literal["artifact"] = "artifact"
    kind: Literal["text", "image", "table", "file"]
    """What it is."""
    tag: str
    """What it was logged as; it may have slashes."""
    media_type: str = "application/octet-stream"
    """What the bytes are: `text/plain` (UTF-8), `image/png`, `image/jpeg`, `image/gif`,
    `application/json` for a table, and for a file what its name tells."""
    path: str = ""
    """The file, absolute; empty where the event holds it. It was complete when the event was
    emitted, and is left where it is."""
    data: Data = b""
    """The bytes of an image; base64 in JSON."""
    text: str = ""
    """The text."""
    columns: tuple[str, ...] = ()
    """The names of a table's columns."""
    rows: Rows = ()
    """A table's rows, of as many cells as there are columns."""
    num_bytes: int = 0
    """How large it is."""
    modified: float | None = None
    """When the file was last written to, in seconds since 1970, as it was when it was logged: one
    that is somebody else's may have changed by the time that it is read."""

    @property
    def gone(self) -> str:
        """What to say where its file is no longer there; empty where it is, or none is needed."""
        if not self.path or Path(self.path).is_file():
            return ""
        return (
            f"the {self.kind} {self.tag!r} was logged as {self.path}, which is gone: give "
            "copy=True where a file does not stay."
        )

    def read(self) -> bytes:
        """The bytes of all of it; a table's are JSON, `{"columns": [...], "rows": [[...], ...]}`.

        Raises:
            OSError: its file cannot be read.
        """
        if self.path:
            return Path(self.path).read_bytes()
        if self.kind == "table":
            return table_to_json(self.columns, self.rows)
        return self.text.encode("utf-8", "backslashreplace") if self.kind == "text" else self.data

    def read_text(self) -> str:
        """The whole text of one of kind `text`.

        Raises:
            OSError: its file cannot be read.
        """
        return self.read().decode("utf-8", "replace") if self.path else self.text

    def read_table(self) -> tuple[tuple[str, ...], tuple[Row, ...]]:
        """The columns and rows of one of kind `table`.

        Raises:
            OSError: its file cannot be read.
            ValueError: its file is no table.
        """
        return table_from_json(self.read()) if self.path else (self.columns, self.rows)


class Evaluate(TrainingEvent):
    """An evaluation is done."""

    name: Literal["evaluate"] = "evaluate"
    metrics: Scalars
    """The metrics by name, `eval_loss` and so on."""


class Predict(TrainingEvent):
    """A prediction over a data set is done."""

    name: Literal["predict"] = "predict"
    metrics: Scalars
    """The metrics by name, `test_loss` and so on."""


class PredictionStep(TrainingEvent):
    """A batch of an evaluation or a prediction is done."""

    name: Literal["prediction_step"] = "prediction_step"
    batch: int = 0
    """How many batches of this evaluation are done."""
    num_batches: int | None = None
    """How many it has, where that is known."""


class Save(TrainingEvent):
    """A checkpoint is complete on disk.

    Rotation leaves it alone until every handler of this event has returned; one that reads it
    for longer holds `event.lease.hold("name")`, a context manager.
    """

    name: Literal["save"] = "save"
    path: str = ""
    """The checkpoint's folder."""
    num_bytes: int = 0
    """Its size."""
    save_s: float = 0.0
    """How long the training thread was busy writing it, s."""
    best: bool = False
    """True for the best checkpoint so far."""

    if TYPE_CHECKING:

        @property
        def lease(self) -> "HoldsFolder":
            """Keeps the folder from being rotated away; comes with the event, not in its JSON."""


class PushBegin(TrainingEvent):
    """A checkpoint, or the output folder, is about to be pushed to the Hub."""

    name: Literal["push_begin"] = "push_begin"
    repository: str = ""
    """Where to."""


class Verdict(TrainingEvent):
    """Somebody's vote was acted on, vetoed, refused or came too late; who, why and when.

    The schedule of the default flow makes no verdicts.
    """

    name: Literal["verdict"] = "verdict"
    action: Action
    """What was asked for."""
    outcome: Literal["acted", "vetoed", "refused", "late", "expired"]
    """What came of it."""
    votes: tuple[Vote, ...] = ()
    """Those who asked, with their reasons."""
    vetoes: tuple[Vote, ...] = ()
    """Those against."""
    point: str = ""
    """The merge point: the name of the event after which the votes were counted."""
    seen_at: int | None = None
    """The newest step that the voters had seen; None where all came from outside."""
    acted_at: int = 0
    """The step at which the engine acted or refused."""
    detail: str = ""
    """What was done, or why not."""


class SubscriberFailed(TrainingEvent):
    """A subscriber's handler raised, timed out, or was given up."""

    name: Literal["subscriber_failed"] = "subscriber_failed"
    subscriber: str
    """Who."""
    event_name: str = ""
    """The kind of event that it was handling."""
    event_seq: int = -1
    """Its number."""
    error: str = ""
    """The exception, or what else went wrong."""
    failures: int = 0
    """Failures of this subscriber so far."""
    quarantined: bool = False
    """True when it gets no further events."""


class SubscriberBehind(TrainingEvent):
    """Events come faster than a subscriber handles them; or it has caught up again."""

    name: Literal["subscriber_behind"] = "subscriber_behind"
    subscriber: str
    """Who."""
    waiting: int
    """Events that wait for it."""
    kind: str = ""
    """The kind that most of them are of."""
    arriving_per_s: float = 0.0
    """Events that come, a second, lately."""
    handled_per_s: float = 0.0
    """Events that it handles, a second, lately."""
    lag_s: float = 0.0
    """From the emission of the last handled event to the start of its handler, s."""
    remedy: str = ""
    """What would help, such as `logging_steps=20 would do`."""
    caught_up: bool = False
    """True when it no longer falls behind."""


class Stalled(TrainingEvent):
    """No step has ended for long, outside of evaluation and saving."""

    name: Literal["stalled"] = "stalled"
    silent_s: float
    """Since the last sign of life, s."""
    limit_s: float
    """What was allowed, s."""
    stack: str = ""
    """Where the training thread stands."""


class Resumed(TrainingEvent):
    """The step that stood still has ended."""

    name: Literal["resumed"] = "resumed"
    silent_s: float
    """How long it stood still, s."""


class BatchSizeRetry(TrainingEvent):
    """A batch did not fit into memory; the run starts again with a smaller one."""

    name: Literal["batch_size_retry"] = "batch_size_retry"
    from_batch_size: int
    to_batch_size: int
    error: str = ""


AnyEvent = Annotated[
    InitEnd
    | TrainBegin
    | TrainEnd
    | RunFailed
    | EpochBegin
    | EpochEnd
    | StepBegin
    | SubstepEnd
    | PreOptimizerStep
    | OptimizerStep
    | OptimizerStepSkipped
    | StepEnd
    | NonFinite
    | Log
    | Histogram
    | Artifact
    | Evaluate
    | Predict
    | PredictionStep
    | Save
    | PushBegin
    | Verdict
    | SubscriberFailed
    | SubscriberBehind
    | Stalled
    | Resumed
    | BatchSizeRetry,
    Field(discriminator="name"),
]
"""Any event of stepbus itself, told apart by `name`."""

NEVER_DROPPED = frozenset(
    {"train_begin", "train_end", "run_failed", "save", "evaluate", "predict", "verdict"}
)
"""Kinds that no overflow policy drops."""
