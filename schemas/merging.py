"""How votes become one decision. Pure: order of arrival and repetition change nothing."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from .errors import ArgumentError
from .values import FROZEN
from .vote import Vote


class VotePolicy(BaseModel):
    """What it takes to carry one action.

    By default any vote carries it, unless somebody vetoes. `VotePolicy(rule="all",
    voters=("early_stopping", "budget"))` asks for all of the named voters, `rule="quorum",
    count=2` for two of them, `rule="fraction", fraction=0.5` for half of them. Voters that a
    policy does not name cannot carry the action, but can still veto it.

    Raises:
        ArgumentError: an unknown rule, or one that can never act.
    """

    model_config = FROZEN

    rule: Literal["any", "all", "quorum", "fraction"] = "any"
    voters: tuple[str, ...] = ()
    """Whose votes count; empty means everybody's, which only `any` allows."""
    count: int = Field(default=1, ge=1)
    """How many of `voters` a quorum needs."""
    fraction: float = Field(default=0.5, gt=0, le=1)
    """Which part of `voters` a fraction needs, rounded up."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            problem = error.errors()[0]
            name = ".".join(("VotePolicy", *map(str, problem["loc"])))
            said = problem["msg"].removeprefix("Value error, ")
            raise ArgumentError(f"{name} is {problem['input']!r}: {said}.") from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rule != "any" and not self.voters:
            raise ValueError(f"the rule {self.rule!r} needs voters=(...) to count among")
        if len(set(self.voters)) < len(self.voters):
            raise ValueError(f"each of voters={self.voters} counts once, so name each once")
        if self.rule == "quorum" and self.count > len(self.voters):
            raise ValueError(f"a quorum of {self.count} among {len(self.voters)} voters never acts")
        return self

    @property
    def needed(self) -> int:
        """How many different voters must ask for the action."""
        if self.rule == "all":
            return len(self.voters)
        if self.rule == "quorum":
            return self.count
        if self.rule == "fraction":
            # As written: 0.28 of 25 voters are 7, though the float product is above 7.
            return math.ceil(Fraction(repr(self.fraction)) * len(self.voters))
        return 1


ANY = VotePolicy()


class Decision(NamedTuple):
    """What a set of votes for one action comes to."""

    carried: bool
    vetoed: bool
    votes: tuple[Vote, ...]
    """Those that asked for it and count, in the order of their voters' names."""
    vetoes: tuple[Vote, ...]


def merge(votes: Iterable[Vote], policy: VotePolicy = ANY) -> Decision:
    """Counts the newest vote of each voter for one action.

    `votes` are in order of arrival; of one voter the last counts, except that a critical vote
    is never replaced. A critical vote carries the action whatever the policy and the vetoes.
    """
    newest: dict[str, Vote] = {}
    critical: dict[str, Vote] = {}
    for vote in votes:
        if vote.critical and not vote.against and not vote.withdrawn:
            critical[vote.voter] = vote
        elif vote.withdrawn:
            newest.pop(vote.voter, None)
        else:
            newest[vote.voter] = vote
    asking = [vote for vote in newest.values() if not vote.against]
    vetoes = tuple(sorted((v for v in newest.values() if v.against), key=lambda v: v.voter))
    if policy.voters:
        asking = [vote for vote in asking if vote.voter in policy.voters]
    counted = tuple(
        sorted((*critical.values(), *(v for v in asking if v.voter not in critical)), key=_voter)
    )
    enough = bool(asking) and len(asking) >= policy.needed
    vetoed = bool(vetoes) and not critical
    return Decision(
        carried=bool(critical) or (enough and not vetoed),
        vetoed=vetoed and enough,
        votes=counted,
        vetoes=vetoes,
    )


def _voter(vote: Vote) -> str:
    return vote.voter
