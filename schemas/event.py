"""The base of all events, and the registry of their kinds."""

import re
import types
import typing
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic_core
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from .errors import ArgumentError, StepbusError, nearest
from .state import StateMark, TrainerState, make_snapshot
from .values import FROZEN, encodable, freeze

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning; new fields alone do not raise it."""


def kind_of(event_class: type[BaseModel]) -> str | None:
    """The name that a class of events fixes, or None for one that fixes none."""
    field = event_class.model_fields.get("name")
    if field is None:
        return None
    if typing.get_origin(field.annotation) is Literal:
        values = typing.get_args(field.annotation)
        return str(values[0]) if len(values) == 1 else None
    return field.default if isinstance(field.default, str) else None


def _origin(event_class: type[BaseModel]) -> tuple[str, str]:
    return (event_class.__module__, event_class.__qualname__)


class Event(BaseModel):
    """Something that happened in a run: frozen, host values only, the same for all who listen.

    The engine emits the kinds in `stepbus.schemas.events`. For one of your own, subclass with a
    `name` and call `bus.publish(event)` from any thread; the bus fills in the header:

        class GradientSpike(Event):
            name: Literal["gradient_spike"] = "gradient_spike"
            ratio: float

    `event.state` is the `TrainerState` as it was then. It is no field: it is put together when
    first read and is not part of the event's JSON.
    """

    model_config = FROZEN
    __slots__ = ("_again", "_captured", "_line", "_state", "lease")

    known_kinds: ClassVar[dict[str, type["Event"]]] = {}

    name: str
    """The kind, in snake case."""
    schema_version: int = SCHEMA_VERSION
    """Version of the fields' meaning."""
    run_id: str = ""
    """The run; the same over all its attempts."""
    attempt: int = 1
    """Which start of the run this is; resuming begins the next."""
    seq: int = -1
    """Dense number of the event in its run, attempt and rank, from 0; -1 in a gate handler, which
    is called before events are numbered."""
    rank: int = 0
    """The process that emitted it."""
    time: float = 0.0
    """Wall time, seconds since 1970."""
    monotonic: float = 0.0
    """`time.monotonic()` of the emitting process, s."""
    step: int = 0
    """Optimizer steps done (`global_step`)."""
    epoch: float = 0.0
    """Epochs done, with the fraction of the current one."""
    unresolved: tuple[str, ...] = ()
    """Fields that are None since their value never arrived from the device."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        kind = kind_of(cls)
        if kind is None:
            return
        if not re.fullmatch(r"[a-z][a-z0-9_]*", kind):
            raise ArgumentError(f"{cls.__name__}.name is {kind!r}: an event's name is snake_case.")
        former = Event.known_kinds.get(kind)
        if former is not None and _origin(former) != _origin(cls):
            raise ArgumentError(
                f"An event named {kind!r} exists already ({former.__module__}.{former.__name__}): "
                f"give {cls.__name__} another name."
            )
        Event.known_kinds[kind] = cls

    @property
    def global_step(self) -> int:
        """Optimizer steps done; the reference's word for `step`."""
        return self.step

    @property
    def state(self) -> TrainerState:
        """The state of the run as it was at this event, read-only.

        Raises:
            StepbusError: the event was read from JSON or made by hand, so no state came with it.
        """
        try:
            return typing.cast(TrainerState, self._state)  # type: ignore[attr-defined]
        except AttributeError:
            pass
        try:
            mark: StateMark = self._captured  # type: ignore[attr-defined]
        except AttributeError:
            raise StepbusError(
                f"This {self.name} event carries no state: it was read from JSON or made by hand. "
                "Its step and epoch are event.step and event.epoch."
            ) from None
        state = make_snapshot(mark[0], self.step, self.epoch, mark[1])
        object.__setattr__(self, "_state", state)
        return state

    @property
    def again(self) -> bool:
        """Whether this tells a subscriber once more how a run began: it takes the place of another
        one, whose process has died, and what that one handled does not come again. `state` is then
        where the run stands now. No field, and False wherever nothing has died."""
        return getattr(self, "_again", False)

    def mark_again(self) -> Self:
        """Marks the event as one that comes again. For the bus."""
        object.__setattr__(self, "_again", True)
        return self

    def attach_state(self, mark: StateMark) -> Self:
        """Gives the event the rest of the state that it was captured with. For the bus."""
        object.__setattr__(self, "_captured", mark)
        return self

    def attach_state_of(self, other: "Event") -> Self:
        """Gives the event the state that came with another, if one did. For the bus."""
        captured = getattr(other, "_captured", None)
        if captured is not None:
            object.__setattr__(self, "_captured", captured)
        return self

    def line(self) -> bytes:
        """The event's JSON and the end of a line, made once whoever asks for it. For the bus."""
        try:
            return _line_of(self)
        except AttributeError:
            line = self.to_json() + b"\n"
            object.__setattr__(self, "_line", line)
            return line

    def to_json(self) -> bytes:
        """The event as one line of JSON, without its state; `parse_event` reads it back.

        Never fails: half a surrogate pair (as in an undecodable file name) is written as a
        backslash escape, a foreign object as its text.
        """
        try:
            return self.__pydantic_serializer__.to_json(self)
        except pydantic_core.PydanticSerializationError:
            values = self.__pydantic_serializer__.to_python(self, mode="python")
            return pydantic_core.to_json(encodable(values), inf_nan_mode="strings", fallback=str)


# Without pydantic's search for an attribute that is not there, which takes longer than the rest.
_line_of: typing.Callable[[Event], bytes] = vars(Event)["_line"].__get__


class UnknownEvent(Event):
    """An event of a kind that this process does not know: kept whole and passed on."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(freeze)]]

    name: str


def parse_event(data: bytes | str | dict[str, Any]) -> Event:
    """Reads an event back from its JSON, or from a dict of its fields.

    A kind that nobody declared here becomes an `UnknownEvent` with all of its fields.

    Raises:
        ArgumentError: not an event, or a field of the wrong type.
    """
    try:
        values = data if isinstance(data, dict) else pydantic_core.from_json(data)
        name = values["name"]
        return Event.known_kinds.get(name, UnknownEvent).model_validate(values)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise ArgumentError(f"This is not an event: {str(data)[:200]!r} ({error}).") from error


def event_class(event: str | type[Event]) -> type[Event]:
    """The class of events that a name or a class stands for.

    Raises:
        ArgumentError: no event has that name.
    """
    if isinstance(event, str):
        known = Event.known_kinds.get(event)
        if known is None:
            raise ArgumentError(
                f"There is no event {event!r}: {nearest(event, Event.known_kinds)} An event of "
                "your own is known once its class is defined."
            )
        return known
    if (
        isinstance(event, type)
        and issubclass(event, Event)
        and not isinstance(event, types.GenericAlias)
    ):
        return event
    raise ArgumentError(f"{event!r} is no event: give a name such as 'step_end', a class, or '*'.")
