"""The engine's side of the bus: say what happened, go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from ..schemas import Event, TrainerState
from ..schemas.history import MARK
from ..schemas.state import StateMark
from .call_values import NAME_OF_VALUES, plain_values
from .deferred import Deferred, fill
from .fork import refuse

if TYPE_CHECKING:
    from .run_link import RunLink

Values = dict[str, Any]

# As Event.attach_state, at a third of the cost.
_attach_state: Callable[[Event, StateMark], None] = vars(Event)["_captured"].__set__


class Captured(NamedTuple):
    """An event before it is built: what the training thread hands over, as a plain tuple."""

    emitter: Emitter
    monotonic: float
    step: int
    epoch: float
    mark: StateMark
    values: Values
    deferred: tuple[Deferred, ...]
    note: Any
    """A lease (save), the functions that wait for a verdict, whose failure it is."""


class Emitter:
    """Emits one kind of event of one run.

    `active` is the one attribute to look at where nobody may be listening:

        if step_end.active:
            step_end.emit({"loss": loss})

    Emitting appends a tuple to a deque: no lock, no wake-up, no waiting, no pydantic.
    """

    __slots__ = (
        "_append",
        "_clock",
        "_heard",
        "_state",
        "active",
        "event_class",
        "gated",
        "header",
        "kind",
        "link",
        "untaken",
        "validate",
        "wanted",
    )

    def __init__(
        self,
        event_class: type[Event],
        link: RunLink,
        state: TrainerState,
        append: Callable[[Any], None],
        clock: Callable[[], float],
    ) -> None:
        self.event_class = event_class
        self.kind: str = event_class.model_fields["name"].default
        self.link = link
        self.header = link.header
        self.validate: Callable[[Any], Event] = event_class.__pydantic_validator__.validate_python
        self._state = state.__dict__
        self._state.setdefault(MARK, None)
        self._append = append
        self._clock = clock
        self._heard = False
        self.untaken = 0
        """Events in a row that nobody took; for the pump."""
        self.wanted = False
        self.gated = False
        self.active = False

    def emit(self, values: Values, deferred: tuple[Deferred, ...] = (), note: Any = None) -> None:
        """Hands over what happened to those who listen concurrently."""
        # Between two steps of a model whatever is looked at comes from memory: MARK is spelled out,
        # and how long the history is has been noted by those who add to it.
        state = self._state
        self._append(
            (
                self,
                self._clock(),
                state["global_step"],
                state["epoch"],
                state["_mark"] or self.link.mark(),
                values,
                deferred,
                note,
            )
        )

    def make_inert(self) -> None:
        """Makes every emission an error; in a forked child."""
        self._append = refuse
        self.wanted = self.active = True

    def want(self, wanted: bool, gated: bool) -> None:
        """Sets who listens; the bus calls it when that changes."""
        self._heard = wanted
        self.gated = gated
        self.rest(False)

    def rest(self, resting: bool) -> None:
        """Has it emit nothing for a while, or again; with the lock of those who listen held."""
        self.wanted = self._heard and not resting
        self.active = self.wanted or self.gated


def build(
    captured: Captured | tuple[Any, ...], seq: int, wall_offset: float, *, wait: bool = False
) -> Event:
    """Makes the frozen event of what was captured.

    Handles whose numbers have not arrived become None, and their names stand in `unresolved`;
    with `wait` they are waited for.
    """
    emitter, monotonic, step, epoch, mark, values, deferred, note = captured
    lost: tuple[str, ...] = ()
    if deferred:
        values, lost = fill(values, wait=wait)
    fields: Values = {
        **emitter.header,
        "seq": seq,
        "time": monotonic + wall_offset,
        "monotonic": monotonic,
        "step": step,
        "epoch": epoch,
        **values,
    }
    if lost:
        fields["unresolved"] = lost
    try:
        event: Event = emitter.validate(fields)
    except ValidationError:
        # Metrics may hold lists, tables or arrays: the rest of them goes out.
        name = NAME_OF_VALUES.get(emitter.kind)
        if name is None:
            raise
        fields[name] = plain_values(emitter.kind, fields[name])
        event = emitter.validate(fields)
    _attach_state(event, mark)
    if note is not None and emitter.kind == "save":
        object.__setattr__(event, "lease", note)
    return event
