"""What a foreign trainer does, step by step, on the bus, and the merge points between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...bus import Deferred, EventBus, RunLink
from ...bus.ranks import Ranks
from ...schemas import Action, TrainerState
from ..metric_buffer import MetricBuffer
from ..rounds import ACTED_ON, Rounds
from ..scalars.waits import HistoryRow
from .asked import Asked
from .host_values import host_values

_SCALARS = (bool, int, float, str)
_PLAIN, _NAMES = frozenset(_SCALARS), frozenset([str])


class BridgedSteps:
    """The part of `BridgedRun` that is called at the hooks between begin and end."""

    def __init__(
        self, bus: EventBus, ranks: Ranks, scheduled: Callable[[], Iterable[Action]]
    ) -> None:
        self.bus = bus
        self.state = TrainerState(
            is_world_process_zero=ranks.rank == 0, is_local_process_zero=ranks.rank == 0
        )
        """The run's own, which mirrors the trainer's."""
        self.link: RunLink
        """What the open run holds of the bus."""
        self.rounds: Rounds
        """Counts its votes; `rounds.stop` says who stopped it, once somebody has."""
        self.asked: Asked
        """What was asked of the trainer and has not been done."""
        self.metrics = MetricBuffer()
        """Takes scalars of a device on their way to events."""
        self.loaded_s = time.perf_counter()
        """When the data of the present step was there; see `begin_step`."""
        self._left_s = self.loaded_s
        self._bus_s = 0.0
        self._ranks = ranks
        self._scheduled = scheduled

    def connect(self, link: RunLink) -> None:
        """Takes the run, once it is open."""
        self.link = link
        self._step_end, self._log = link.emitters["step_end"], link.emitters["log"]
        self._monotonic = link.bus.clock.monotonic

    def at(self, step: int, epoch: float) -> None:
        """Notes where the trainer stands, without copying its state."""
        own = self.state.__dict__
        own["global_step"] = step
        own["epoch"] = epoch

    def emit(
        self,
        kind: str,
        values: dict[str, Any] | None = None,
        note: Any = None,
        deferred: tuple[Deferred, ...] = (),
    ) -> None:
        """Emits an event where anybody listens."""
        link = self.link
        emitter = link.emitters[kind]
        if emitter.active:
            link.fire(emitter, values or {}, deferred, note)

    def hear_out(self, seconds: float) -> None:
        """Waits for those who listen, so that their votes come to the merge point that follows."""
        if self.bus.is_heard:
            started = time.monotonic()
            self.bus.flush(seconds)
            self.link.account.drained(time.monotonic() - started)

    def begin_step(self) -> None:
        """Notes that the data of a step is there: what lay since `leave` was waiting for it."""
        self.loaded_s = time.perf_counter()

    def end_step(self, learning_rate: float | None = None) -> None:
        """Announces the end of a step (`at` has been called) and counts the votes."""
        entered_s = time.perf_counter()
        link, emitter, left_s, loaded_s = self.link, self._step_end, self._left_s, self.loaded_s
        step_s = entered_s - left_s
        link.votes.step = self.state.__dict__["global_step"]
        pulse = link.pulse
        pulse.durations_s.append(step_s)
        if emitter.active:
            values = {
                "learning_rate": learning_rate,
                "step_s": step_s,
                "data_wait_s": max(0.0, loaded_s - left_s),
                "bus_s": self._bus_s,
            }
            link.fire(emitter, values)
        if link.votes.has_votes or self.asked.waiting or not link.control.is_settled:
            self.hold("step_end")
        if link.listeners_changed:
            link.note_listeners()
        pulse.beat_s = self._monotonic()
        left_s = self._left_s = time.perf_counter()
        bus_s = self._bus_s = left_s - entered_s
        link.account.note_step(bus_s)

    def leave(self) -> None:
        """Notes that an action of the trainer is over: it is no part of the next step."""
        self._left_s = time.perf_counter()

    def since_left(self) -> float:
        """Seconds since the end of the last step or action."""
        return time.perf_counter() - self._left_s

    def log(self, logs: Mapping[str, Any], row: Mapping[str, Any] | None = None) -> None:
        """Adds a row to the history, and emits `log`. Values on a device are not waited for.

        Args:
            logs: what the trainer logs, under its own names. Tensors with several values, and
                what is neither a number nor text, are left out and named once.
            row: the row as the trainer keeps it, where it keeps one; else the logs with `epoch`
                and `step`.
        """
        state = self.state
        handles: tuple[Deferred, ...] = ()
        if _PLAIN.issuperset(map(type, logs.values())) and _NAMES.issuperset(map(type, logs)):
            values = dict(logs)
        else:
            values, handles = host_values("the trainer", logs, self.metrics)
        if row is None:
            row = {"epoch": state.epoch, **values, "step": state.global_step}
        elif handles or not _PLAIN.issuperset(map(type, row.values())):
            plain = {k: v for k, v in row.items() if v is None or isinstance(v, _SCALARS)}
            row = {**plain, **{k: v for k, v in values.items() if k in row}}
        if self.link.measured.waiting:
            taken = self.link.measured.take()
            row, values = {**taken, **row}, {**taken, **values}
        state.add_log(HistoryRow(row, self.metrics.waits) if handles else dict(row))
        if self._log.active:
            self.link.fire(self._log, {"logs": values}, handles)

    def hold(self, point: str, *, stops: bool = True, only: Sequence[Action] = ACTED_ON) -> None:
        """A merge point: votes are counted, and what they ask for is asked of the trainer.

        What was asked for before and has not been done is asked for once more.

        Args:
            point: the event after which it is.
            stops: whether the trainer can leave its loop, or the epoch, from here.
            only: what else it can do from here; votes for the rest wait.
        """
        link, asked = self.link, self.asked
        if asked.waiting:
            asked.again(only, stops=stops)
            only = [action for action in only if action not in asked.waiting]
        if link.votes.has_votes or not link.control.is_settled:
            asked.point = point
            if not self._ranks.several:
                for action in self._scheduled():
                    if action in only:
                        self.rounds.schedule(action)
            self.rounds.hold(point, stops=stops, only=only)
