"""One request to the run: what, who, why, for or against, and since when."""

from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError

from .errors import ArgumentError, nearest
from .values import FROZEN

Action = Literal["log", "evaluate", "save", "stop_epoch", "stop"]
"""What can be asked of a run; acted on in this order."""

ACTIONS: tuple[Action, ...] = get_args(Action)


class Vote(BaseModel):
    """A request to the run, cast by returning it from a handler or with `run.vote(...)`.

    `Vote("save", reason="before the cluster goes down")` asks for a checkpoint;
    `Vote("stop", against=True, reason="still improving")` vetoes a stop.

    Raises:
        ArgumentError: unknown action, or an expiry that is not positive.
    """

    model_config = FROZEN

    action: Action
    reason: str = ""
    """Why, in a sentence; goes on record with the verdict."""
    voter: str = ""
    """Who asks; filled in with the subscriber's name where it is left empty."""
    against: bool = False
    """True vetoes the action instead of asking for it."""
    critical: bool = False
    """True for a stop by a signal, a cancellation or a critical subscriber: beyond any veto."""
    withdrawn: bool = False
    """True takes back the voter's standing vote for this action and does nothing else."""
    step: int | None = None
    """The step whose event the voter had seen; None for votes from outside."""
    expires_after_steps: int | None = Field(default=None, gt=0)
    """The vote lapses when the run is this many steps past the step it was cast at."""
    expires_after_s: float | None = Field(default=None, gt=0)
    """The vote lapses this many seconds after it arrived."""

    def __init__(self, action: Any = None, /, **fields: Any) -> None:
        if action is not None:
            fields["action"] = action
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ArgumentError(_explain(fields, error)) from None

    def withdraw(self) -> Self:
        """The vote that takes this one back."""
        return self.model_copy(update={"withdrawn": True})


def _explain(fields: dict[str, Any], error: ValidationError) -> str:
    action = fields.get("action")
    if action not in ACTIONS:
        return f"There is no action {action!r} to vote for: {nearest(str(action), ACTIONS)}"
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    return f"Vote.{name} is {problem['input']!r}: {problem['msg'].lower()}."
