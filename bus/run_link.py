"""What a run holds of the bus, and the bus of a run: emitters, gate chain, votes, pulse."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..schemas import Action, Event, TrainerControl, TrainerState, TrainingEvent
from ..schemas.state import StateMark
from .callback_chain import WITH_VALUES
from .control_channel import RunControl
from .deferred import Deferred
from .emitter import Emitter, Values
from .gate import GateChain
from .gate_call import GateCall
from .measuring import MeasuredValues
from .run_account import RunAccount, RunCost
from .subscription import Subscription

if TYPE_CHECKING:
    from .event_bus import EventBus

NO_VALUES: Values = {}


class Pulse:
    """Signs of life of the training thread, read by the pump."""

    __slots__ = ("beat_s", "busy", "durations_s", "thread_id")

    def __init__(self) -> None:
        self.beat_s: float | None = None
        """When the last step ended (monotonic); None before the first step begins."""
        self.busy = ""
        """What the thread does that may take long: evaluating, saving; empty while it steps."""
        self.durations_s: deque[float] = deque(maxlen=51)
        """The last steps' lengths, s."""
        self.thread_id = threading.get_ident()


class Numbering:
    """The next number of a run's events; for the pump alone. Outlives the run for late verdicts."""

    __slots__ = ("next",)

    def __init__(self) -> None:
        self.next = 0

    def take(self) -> int:
        """The next number."""
        seq = self.next
        self.next = seq + 1
        return seq


class RunLink:
    """One run on one bus. Made by `EventBus.open_run`; used on the run's own thread."""

    def __init__(
        self,
        bus: EventBus,
        control: RunControl,
        *,
        run_id: str,
        attempt: int,
        rank: int,
        state: TrainerState,
        folder: Path | None,
    ) -> None:
        self.bus = bus
        self.votes = control
        self.state = state
        self.folder = folder
        self.header: Values = {"run_id": run_id, "attempt": attempt, "rank": rank}
        self.key = (run_id, attempt)
        self.control = TrainerControl()
        self.gate = GateChain(bus.feedback, self.control, lambda: bus.refresh(self))
        self.pulse = Pulse()
        self.account = RunAccount()
        self.measured = MeasuredValues()
        self.context: Callable[[], dict[str, Any]] = lambda: {"args": None, "state": state}
        self.numbering = Numbering()
        self.listeners_changed = False
        """Whether `note_listeners` has something to do."""
        self._on_listeners: Callable[[], None] = lambda: None
        self.emitters: dict[str, Emitter] = {}
        clock = bus.clock.monotonic
        for kind, event_class in list(Event.known_kinds.items()):
            if issubclass(event_class, TrainingEvent):
                self.emitters[kind] = Emitter(event_class, self, state, bus.append, clock)

    @property
    def run_id(self) -> str:
        """The run."""
        return str(self.header["run_id"])

    def cost(self) -> RunCost:
        """What stepbus cost the run so far; from any thread."""
        return self.account.cost(*self.key, votes=self.votes.num_votes)

    def wall_offset(self) -> float:
        """What to add to the monotonic clock to get wall time, s."""
        return self.bus.clock.time() - self.bus.clock.monotonic()

    def mark(self) -> StateMark:
        """What an event keeps of the state; from any thread."""
        if threading.get_ident() == self.pulse.thread_id:
            return self.state.mark()
        # The state remembers what it computes: from here, that could be what it was just before
        # an assignment of the training thread.
        return self.state.new_mark()

    def listen(self, wants: Callable[[type[Event]], bool], gates: Sequence[Subscription]) -> None:
        """Tells the emitters who listens; called by the bus whenever that changes."""
        self.gate.set_subscriptions(list(gates))
        for kind, emitter in self.emitters.items():
            event_class = emitter.event_class
            emitter.want(wants(event_class), self.gate.hears(event_class, kind))
        self.listeners_changed = True
        if threading.get_ident() == self.pulse.thread_id:
            self.note_listeners()

    def follow_listeners(self, follow: Callable[[], None]) -> None:
        """Calls `follow` at once and whenever others may listen than before.

        On the run's own thread: where another changes who listens, before the next step.
        """
        self._on_listeners = follow
        follow()

    def note_listeners(self) -> None:
        """Has those who follow the listeners look at them."""
        self.listeners_changed = False
        self._on_listeners()

    def silence(self) -> None:
        """Ends all emission: the bus is closed."""
        for emitter in self.emitters.values():
            emitter.want(False, emitter.gated)

    def make_inert(self) -> None:
        """Makes emitting and voting an error; in a forked child."""
        for emitter in self.emitters.values():
            emitter.make_inert()
        self.votes.make_inert()

    def emit(
        self,
        kind: str,
        values: Values = NO_VALUES,
        deferred: tuple[Deferred, ...] = (),
        note: Any = None,
    ) -> None:
        """Emits an event to those who listen concurrently and calls the gate."""
        emitter = self.emitters[kind]
        if emitter.active:
            self.fire(emitter, values, deferred, note)

    def fire(
        self,
        emitter: Emitter,
        values: Values = NO_VALUES,
        deferred: tuple[Deferred, ...] = (),
        note: Any = None,
    ) -> None:
        """As `emit`, where the caller has looked at `emitter.active` already."""
        if emitter.wanted:
            given = values
            if emitter.gated and emitter.kind in WITH_VALUES:
                # Callbacks may write into what they get, as in the reference.
                name = WITH_VALUES[emitter.kind]
                given = values | {name: dict(values[name])}
            emitter.emit(given, deferred, note)
        if emitter.gated:
            self.gate.call(GateCall(emitter, values, deferred, note), self)

    def collect_gate_votes(self) -> None:
        """Turns what the gate callbacks left in the shared control into votes."""
        if self.control.is_settled:
            return
        for vote, scheduled in self.gate.votes(self.state.global_step):
            self.votes.post(vote, scheduled=scheduled)

    def reset_flags(self, *actions: Action) -> None:
        """Clears flags that callbacks see, at the place where the reference does; loses no vote."""
        if self.control.is_settled:
            return
        self.collect_gate_votes()
        for action in actions:
            self.control.reset(action)
