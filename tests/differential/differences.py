"""Where stepbus differs from the reference on purpose; each has a test in test_differences.py."""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """One of them.

    Attributes:
        masks: patterns of the lines in a comparison's report that are due to it.
    """

    name: str
    reference: str
    stepbus: str
    why: str
    masks: tuple[str, ...] = ()


LOST_VOTES = Difference(
    "lost votes",
    reference="forgets a flag that is set where it does not look before the next reset: "
    "on_init_end, on_train_begin, on_epoch_begin, on_log for a log, on_prediction_step and "
    "on_evaluate for a log or an evaluation, on_save for all three",
    stepbus="acts on it at the next merge point",
    why="who asked for a checkpoint must get one, wherever the hook is called from",
)
HALF_STEPS = Difference(
    "half steps",
    reference="leaves in the middle of an accumulation; the gradients so far enter the first step "
    "of the next epoch, or are lost with the step",
    stepbus="completes the step, then leaves",
    why="a step of other data than it says is a wrong step",
)
ABANDONED_EVALUATION = Difference(
    "abandoned evaluation",
    reference="finishes an evaluation during which a stop is asked for",
    stepbus="leaves it before its next batch, without metrics",
    why="a stop by hand or by a signal must not wait for an hour of evaluation",
)
NEUTRAL_LISTENERS = Difference(
    "listeners and random numbers",
    reference="callbacks draw from the generators of the training, and so does an evaluation that "
    "one of them asks for",
    stepbus="both leave them as they were",
    why="the weights must not depend on who listens",
    masks=(r"\.generators: ",),
)
LOG_AGAIN = Difference(
    "logs that are voted for",
    reference="ignores a flag to log at a step that was logged",
    stepbus="logs what there is: learning rate and gradient norm, and what users logged",
    why="a vote is kept",
)
END_OF_AN_EPOCH = Difference(
    "resume at the end of an epoch",
    reference="a checkpoint of an epoch's last step goes on with the next epoch; on_epoch_end and "
    "what is scheduled there are left out",
    stepbus="goes on with the end of that epoch",
    why="a resumed run does what the unbroken one does",
)
LENGTH_COLUMN = Difference(
    "length column",
    reference="remove_unused_columns takes the column of length_column_name away before "
    "group_by_length looks for it",
    stepbus="looks first",
    why="who names a column wants it used",
)
NO_BEST_YET = Difference(
    "best metric before the first",
    reference="best_metric is an infinity after an evaluation that gave NaN",
    stepbus="is None",
    why="nothing was the best; and JSON has no infinity",
    masks=(r"best_metric: inf != None",),
)
LAST_KEPT = Difference(
    "the last checkpoint beside the best",
    reference="with save_total_limit=1 deletes the last checkpoint at the end of training, where "
    "another one is the best",
    stepbus="keeps both",
    why="the best one is to be used, and the last one to be resumed",
    masks=(
        r"^folders: 1 != 2 items",
        r"(?s)^(json|saved_weights|files)\.checkpoint-\d+: .* is in stepbus alone",
    ),
)
SAVE_UNDER_BEST = Difference(
    "save under best",
    reference='under save_strategy="best" an evaluation overwrites a callback\'s flag to save',
    stepbus="saves for the callback as well",
    why="a vote is kept",
)
NAN_LOSSES = Difference(
    "losses that are no numbers",
    reference="with logging_nan_inf_filter, its default, logs the mean of the losses before them, "
    "and leaves batches without a finite loss out of an evaluation's; without it every later log "
    "is NaN",
    stepbus="logs what was computed, where it was computed",
    why="a run that breaks must be seen to break; and to filter is to wait for the device",
)
FAILING_CALLBACK = Difference(
    "failing callback",
    reference="an exception in a callback ends the training",
    stepbus="reports it and goes on, as for every subscriber that is not critical",
    why="a dashboard must not cost a run",
)
TAIL_OF_A_STREAM = Difference(
    "tail of a stream",
    reference="micro-batches at the end of data without a length that fill no group are no step; "
    "their gradients enter the first step of the next epoch",
    stepbus="they are a step of their own, as with data that has a length",
    why="a step of other data than it says is a wrong step",
)
LOSS_AFTER_RESUME = Difference(
    "train_loss after a resume",
    reference="train_loss is the mean of this call's steps",
    stepbus="of the whole run's",
    why="a resumed run ends as the unbroken one",
    masks=(r"\.train_loss", r"training_loss"),
)
SLOW_GAINS = Difference(
    "slow gains",
    reference="early stopping counts each gain below its threshold as a failure",
    stepbus="adds them up; count_slow_gains_as_failures=True is the reference's rule",
    why="the threshold is there against noise, and a metric that gains for long is no noise",
)
CALLBACKS_OF_ONE_CLASS = Difference(
    "several stateful callbacks of one class",
    reference="each checkpoint appends to their list, and a resume reads its first entries",
    stepbus="each gets back its own",
    why="a resumed run ends as the unbroken one",
)
INSTANCES_KEPT = Difference(
    "instances of stateful callbacks",
    reference="a resume with restore_callback_states_from_checkpoint replaces them by new ones, at "
    "the end; without it they start anew",
    stepbus="always gives the instances, in their places, their state back",
    why="a resumed run ends as the unbroken one",
)
PRINTER = Difference(
    "the printer",
    reference="takes total_flos out of the logs that callbacks after it see, and of what train() "
    "gives back",
    stepbus="prints a copy",
    why="who listens must not change what others hear",
    masks=(r"^results\..*\.metrics\.total_flos: .* is in stepbus alone",),
)
WEIGHTS_ALONE = Difference(
    "resume from weights alone",
    reference="resumes from a checkpoint of save_only_model with a fresh optimizer",
    stepbus="refuses it",
    why="such a run is another run, which should be started as one",
)
STREAM_THAT_ENDS = Difference(
    "stream that ends too early",
    reference="an epoch without a single batch is an error of the loader",
    stepbus="ends the training, and says so",
    why="what the reference says that it does in this case",
)
PREPARATION_TIME = Difference(
    "preparation time",
    reference="metrics of a Trainer whose first call is no training have a model_preparation_time",
    stepbus="have none",
    why="nothing is prepared",
    masks=(r"_model_preparation_time: .* is missing in stepbus",),
)
OWN_EVALUATION_LOADER = Difference(
    "losses of a loader of one's own",
    reference="over an overridden get_eval_dataloader each batch counts as a full one",
    stepbus="eval_loss is the mean over samples, whoever made the loader",
    why="one figure must mean one thing",
)
EVALUATION_WITHOUT_DATA = Difference(
    "evaluation without data",
    reference="an evaluation that a callback asks for, without an eval_dataset, is an error",
    stepbus="is refused, which goes on record, and training goes on",
    why="who listens must not end a run",
)
