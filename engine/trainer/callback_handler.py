"""The callbacks of a Trainer as the reference shows them: `trainer.callback_handler.callbacks`."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...schemas import TrainerControl
from ..callback_list import Callback, CallbackList

if TYPE_CHECKING:
    from .sessions import Sessions


class CallbackHandler:
    """The reference's name for the list of a Trainer's callbacks.

    `on_evaluate` and `on_predict` are for an `evaluate` or a `predict` of one's own that does not
    call the overridden one; all else is announced by the run itself.
    """

    def __init__(self, callbacks: CallbackList, sessions: Sessions) -> None:
        self._list = callbacks
        # A weak one: else a Trainer would be freed by the garbage collector alone.
        self._sessions: Sessions = weakref.proxy(sessions)

    @property
    def callbacks(self) -> list[Callback]:
        """All of them, in their order."""
        return self._list.callbacks

    @property
    def callback_list(self) -> str:
        """Their class names, a line each."""
        return "\n".join(type(callback).__name__ for callback in self._list.callbacks)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any]
    ) -> TrainerControl:
        """Announces an evaluation to callbacks and subscribers; the control that they share."""
        return self._announce("evaluate", metrics)

    def on_predict(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any]
    ) -> TrainerControl:
        """Announces a prediction to callbacks and subscribers; the control that they share."""
        return self._announce("predict", metrics)

    def _announce(self, kind: str, metrics: Mapping[str, Any]) -> TrainerControl:
        with self._sessions._session(kind) as run:
            run.announce(kind, {"metrics": metrics})
        return self._sessions.control

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            raise AttributeError(
                f"stepbus's callback_handler has no {name}: the run itself calls the callbacks. "
                "Say trainer.log(...) or trainer.evaluate(), or bus.publish(...) an event of your "
                "own; in an evaluation_loop, go through the batches by super().evaluation_loop."
            )
        raise AttributeError(f"callback_handler has no attribute {name!r}.")

    def add_callback(self, callback: Any) -> None:
        """As `Trainer.add_callback`."""
        self._list.add(callback)

    def pop_callback(self, callback: Any) -> Callback | None:
        """As `Trainer.pop_callback`."""
        return self._list.pop(callback)

    def remove_callback(self, callback: Any) -> None:
        """As `Trainer.remove_callback`."""
        self._list.remove(callback)
