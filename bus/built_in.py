"""Built-ins with a Hugging Face name: subscribers that are callbacks of that shape too."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pydantic

from ..schemas import Event
from .call_values import event_of_call, given_values
from .diagnostics import get_logger
from .handing_on import Sides
from .shapes import in_both_shapes, in_their_shape, is_in_both, own_method
from .subscriber import Subscriber, TrainerCallback

log = get_logger()

_SIDES = "_stepbus_sides"


class BuiltInCallback(Subscriber, TrainerCallback):
    """The base of built-ins with a Hugging Face name, and of all trackers.

    Its own methods take one event, as those of every `Subscriber`, and are called concurrently. A
    subclass may override them in Hugging Face's shape:

        class Renamed(TensorBoardCallback):
            def on_log(self, args, state, control, logs=None, **kwargs):
                logs = {f"mine_{name}": value for name, value in logs.items()}
                super().on_log(args, state, control, logs=logs, **kwargs)

    That method is called on the training thread, in the callback's place among the others, and the
    concurrent side no longer gets `log` by itself: `super().on_log(...)` hands it an event with the
    edited values and the header of the original, in order with all else in its mailbox, and
    returns. Without the call it gets nothing, with two calls it gets two.

    Called in that shape while it is on no bus, as by Hugging Face's own Trainer, it does its work
    in the calling thread at once. Such calls say less than events: the folder of a save is taken to
    be `<output_dir>/checkpoint-<step>`, and there are no step times.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, method in list(vars(cls).items()):
            kind = name.removeprefix("on_")
            if name == kind or kind not in Event.known_kinds or not inspect.isfunction(method):
                continue
            if is_in_both(method):
                # Under another name (on_predict = on_evaluate) it must know that name.
                if method.__name__ != name:
                    setattr(cls, name, in_both_shapes(kind, own_method(method)))
            elif not in_their_shape(method.__get__(object())):
                setattr(cls, name, in_both_shapes(kind, method))

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled or copied: all but the buses that it is on."""
        return {name: value for name, value in vars(self).items() if name != _SIDES}

    def _answer_call(
        self,
        kind: str,
        method: Callable[..., Any] | None,
        args: Any = None,
        state: Any = None,
        control: Any = None,
        *more: Any,
        **keywords: Any,
    ) -> None:
        """What a method of one event does when it is called in Hugging Face's shape."""
        sides = sides_of(self)
        values = given_values(type(self).__name__, kind, more, keywords)
        if sides.hand_on_original(kind, values):
            return
        try:
            event = event_of_call(kind, args, state, values, keywords, sides.header(state))
        except pydantic.ValidationError:
            _say_passed_over(type(self).__name__, kind)
            return
        if not sides.hand_on(event, state):
            sides.handle(method, event)


def sides_of(callback: BuiltInCallback) -> Sides:
    """Where a callback listens. Not made in its constructor, which a subclass may not call."""
    sides: Sides | None = vars(callback).get(_SIDES)
    return sides or vars(callback).setdefault(_SIDES, Sides(callback))


for _name in [name for name in vars(TrainerCallback) if name.startswith("on_")]:
    # Of these a built-in does not listen to those that it does not override.
    setattr(BuiltInCallback, _name, in_both_shapes(_name.removeprefix("on_"), None))


@functools.cache
def _say_passed_over(callback: str, kind: str) -> None:
    log.warning(
        f"{callback}.on_{kind}(args, state, control) does nothing: such a call does not say what "
        f"a {kind} event must."
    )
