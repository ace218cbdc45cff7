"""Where the cases of this folder differ on purpose; the lines of a report that are due to it."""

from __future__ import annotations

from tests.differential.differences import Difference

PREPARATION_TIME = Difference(
    "model_preparation_time",
    reference="metrics of a Trainer whose first call is no training have it",
    stepbus="have none",
    why="nothing is prepared",
    masks=(r"_model_preparation_time: .* is missing in stepbus",),
)
OLDER_NAME = Difference(
    "warnings of older names",
    reference="says that gradient_checkpointing goes away in version 6",
    stepbus="says what to write",
    why="own words",
    masks=(r"warnings: of stepbus alone: FutureWarning: gradient_checkpointing",),
)
FORMER_NAME = Difference(
    "warnings of version 4's names",
    reference="knows the names no more",
    stepbus="takes them with one warning each",
    why="most scripts still have them",
    masks=(r"warnings: of stepbus alone: FutureWarning: \w+ is an argument of transformers 4",),
)
RESUMED = Difference(
    "resumes",
    reference="train_loss is the mean of this call's steps; a restored control still asks for the "
    "checkpoint in which it was saved",
    stepbus="train_loss is of the whole run; what has acted is not asked for again",
    why="a resumed run ends as the unbroken one",
    masks=(r"\.train_loss", r"\.flags: 'S' != ''"),
)
