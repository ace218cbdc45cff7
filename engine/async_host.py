"""`await run_async(train)`: a training beside an event loop, asyncio's or trio's."""

from __future__ import annotations

import contextvars
import inspect
import threading
import traceback
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel

from ..bus.diagnostics import get_logger
from ..bus.loop_host import LoopWaker
from ..schemas.errors import ArgumentError
from .hosting import HOSTED, Hosted, OnCancel
from .thread_modes import ThreadModes

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

log = get_logger()

STOP_TIMEOUT_S = 30.0


async def run_async(
    function: Callable[[*Ts], T],
    *args: *Ts,
    on_cancel: OnCancel = "stop",
    stop_timeout: float = STOP_TIMEOUT_S,
    name: str | None = None,
) -> T:
    """Calls a function that trains in a thread of its own, and waits for it without blocking.

        async def handle(request):
            return await run_async(train, config, on_cancel="save")

    The function is an ordinary one: it holds the `with TrainingRun(...)` loop, or calls
    `trainer.train()`. Its thread is no pool's, has the context variables of the caller and what
    torch keeps by thread (gradient mode, autocast, default device ...), and installs no signal
    handlers.

    A cancellation of the caller is a vote to stop for every run that the function has open or
    opens afterwards, which no veto holds back: the run stops after its present step, and the
    cancellation goes on. One that has not stopped by the deadline is left behind: its thread, a
    daemon, is named in a message and in the run's ledger.

    Args:
        function: what to call; give keyword arguments by `functools.partial`.
        args: its arguments.
        on_cancel: "stop", or "save" for a checkpoint before it stops.
        stop_timeout: how long a cancelled training has for its step, its checkpoint and its
            subscribers, s.
        name: of the thread, after `stepbus-training-`; by default the function's.

    Returns:
        What the function returned.

    Raises:
        ArgumentError: an async function, an unknown `on_cancel`, or a time that is not positive.
        BaseException: what the function raised, with its traceback.
    """
    if inspect.iscoroutinefunction(function):
        raise ArgumentError(
            f"run_async({_name_of(function)}): it is async, and would run on the loop. Give the "
            "function that trains, which is not."
        )
    hosted = Hosted(on_cancel, stop_timeout)
    await anyio.lowlevel.checkpoint_if_cancelled()
    training = _TrainingThread(function, args, hosted, name or _name_of(function))
    training.start()
    await training.wait()
    result: T = training.result()
    return result


class _TrainingThread:
    """One call of a function in a thread of its own; made and waited for on the host's loop."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], hosted: Hosted, name: str
    ) -> None:
        self._hosted = hosted
        self._call: Callable[[], Any] | None = lambda: function(*args)
        self._modes = ThreadModes()
        self._context = contextvars.copy_context()
        self._context.run(HOSTED.set, hosted)
        self._waker = LoopWaker()
        self._done = anyio.Event()
        self._left = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"stepbus-training-{name}", daemon=True
        )

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def _run(self) -> None:
        call, self._call = self._call, None
        assert call is not None
        try:
            self._value = self._context.run(self._modes.call, call)
        except BaseException as error:
            self._error = error
        # With the loop gone, or its task, nobody takes it.
        if (not self._waker.call(self._done.set) or self._left) and self._error is not None:
            self._say("failed after its host had gone on without it")

    async def wait(self) -> None:
        """Waits for the end; when cancelled, for as long as the training may take to stop.

        A further cancellation does not hurry it, nor does a shield of the host's hold it up.
        """
        try:
            await self._done.wait()
        except GeneratorExit:  # The coroutine is thrown away, and cannot wait.
            self._hosted.cancel("its host has gone")
            self._leave_behind()
            raise
        except BaseException as cancelled:
            why = "" if _is_cancellation(cancelled) else f" by {type(cancelled).__name__}"
            self._hosted.cancel(f"its host was cancelled{why}")
            await self._wait_until_stopped()
            raise
        finally:
            if self._done.is_set():
                # It has nothing to do any more.
                self._thread.join()

    async def _wait_until_stopped(self) -> None:
        deadline = anyio.current_time() + self._hosted.stop_timeout
        while not self._done.is_set() and anyio.current_time() < deadline:
            try:
                with anyio.CancelScope(shield=True, deadline=deadline):
                    await self._done.wait()
            except BaseException as again:
                if not _is_cancellation(again):
                    raise
        if not self._done.is_set():
            self._leave_behind()
        elif self._error is not None:
            self._say("failed while it was stopping")

    def _leave_behind(self) -> None:
        self._left = True
        self._hosted.leave_behind(self._thread)

    def _say(self, what: str) -> None:
        assert self._error is not None
        text = "".join(traceback.format_exception(self._error)).rstrip()
        log.error(f"{self._thread.name} {what}.\n{text}")

    def result(self) -> Any:
        """What the function returned, or raises what it raised."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # Its traceback holds this frame.


def _is_cancellation(error: BaseException) -> bool:
    return isinstance(error, anyio.get_cancelled_exc_class())


def _name_of(function: Callable[..., Any]) -> str:
    inner = getattr(function, "func", function)  # Of a functools.partial.
    return str(getattr(inner, "__name__", type(inner).__name__))
