"""The gate: handlers on the training thread, in order, and callbacks that share a control."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stepbus.bus import EventBus, RunLink, TrainerCallback
from stepbus.bus.subscriber import overridden_hooks
from stepbus.bus.testing import Recorder
from stepbus.schemas import (
    Event,
    Log,
    StepEnd,
    SubscriberFailed,
    TrainerControl,
    TrainerState,
    Vote,
)

MakeBus = Callable[..., EventBus]


@pytest.fixture
def link(bus: EventBus) -> RunLink:
    return bus.open_run(TrainerState())


def step(link: RunLink) -> dict[str, Vote]:
    """Ends a step; the votes it made, by action."""
    link.state.global_step += 1
    link.emit("step_end")
    link.collect_gate_votes()
    found = {}
    for action in ("log", "evaluate", "save", "stop_epoch", "stop"):
        outcome = link.votes.decide(action, link.state.global_step)
        if outcome is not None and outcome.decision.votes:
            found[action] = outcome.decision.votes[0]
    return found


class Sets(TrainerCallback):
    """Sets flags at the end of each step."""

    def __init__(self, **flags: bool) -> None:
        self.flags = flags
        self.saw: list[tuple[bool, ...]] = []

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.saw.append(control.flags)
        for name, value in self.flags.items():
            setattr(control, name, value)


class Setter(Sets):
    """Another one, by another name."""


class Clears(Sets):
    """A third."""


def test_gate_handlers_run_on_the_training_thread_in_the_order_of_subscription(
    bus: EventBus,
) -> None:
    called: list[tuple[str, int]] = []

    class Handler:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, event: Event) -> None:
            called.append((self.name, threading.get_ident()))

    for name in ("first", "second", "third"):
        bus.subscribe("step_end", delivery="gate", name=name)(Handler(name))
    link = bus.open_run(TrainerState())
    link.emit("step_end")
    here = threading.get_ident()
    assert called == [("first", here), ("second", here), ("third", here)]


def test_a_gate_gets_the_event_unnumbered_with_its_state(bus: EventBus) -> None:
    seen: list[StepEnd] = []
    bus.subscribe("step_end", delivery="gate")(seen.append)
    state = TrainerState(max_steps=5)
    link = bus.open_run(state, run_id="run")
    state.global_step = 3
    link.emit("step_end", {"loss": 2.0})
    event = seen[0]
    assert (event.seq, event.step, event.loss, event.run_id) == (-1, 3, 2.0, "run")
    assert event.state.max_steps == 5
    assert event.time > 1e9


def test_a_gate_alone_takes_no_number_and_starts_no_delivery(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("log")(recorder)
    bus.subscribe("step_end", delivery="gate")(lambda event: None)
    link = bus.open_run(TrainerState())
    emitter = link.emitters["step_end"]
    assert (emitter.active, emitter.wanted, emitter.gated) == (True, False, True)
    link.emit("step_end")
    link.emit("log", {"logs": {}})
    assert bus.flush(10)
    assert recorder.of(Log)[0].seq == 0


def test_filters_of_gate_handlers(bus: EventBus) -> None:
    seen: list[int] = []
    bus.subscribe("step_end", delivery="gate", every=3, when=lambda e: e.step != 6)(
        lambda event: seen.append(event.step)
    )
    link = bus.open_run(TrainerState())
    for _ in range(10):
        step(link)
    assert seen == [3, 9]


def test_subscribing_and_unsubscribing_gates_in_the_middle_of_a_run(
    bus: EventBus, link: RunLink
) -> None:
    seen: list[int] = []

    def handler(event: StepEnd) -> None:
        seen.append(event.step)

    step(link)
    bus.subscribe("step_end", delivery="gate")(handler)
    step(link)
    bus.unsubscribe(handler)
    step(link)
    assert seen == [2]
    assert not link.emitters["step_end"].active


def test_the_last_writer_wins_and_is_credited(link: RunLink) -> None:
    clears = Clears(should_save=False)
    for callback in (Sets(should_save=True), clears, Setter(should_save=True)):
        link.gate.add(callback)
    votes = step(link)
    assert set(votes) == {"save"}
    assert (votes["save"].voter, votes["save"].step) == ("Setter", 1)
    assert clears.saw[0] == (False, False, True, False, False), "all share one control"


def test_what_was_cleared_in_the_chain_is_no_vote(link: RunLink) -> None:
    link.gate.add(Sets(should_training_stop=True, should_log=True))
    link.gate.add(Clears(should_training_stop=False))
    assert set(step(link)) == {"log"}


def test_clearing_undoes_only_what_the_chain_set(bus: EventBus, link: RunLink) -> None:
    link.gate.add(Clears(should_save=False, should_training_stop=False))
    bus.vote("save", voter="ann")
    votes = step(link)
    assert votes["save"].voter == "ann"


def test_setting_again_what_is_set_keeps_the_first_ones_credit(link: RunLink) -> None:
    link.gate.add(Sets(should_save=True))
    link.gate.add(Setter(should_save=True))
    assert step(link)["save"].voter == "Sets"


def test_a_flag_becomes_one_vote_and_stays_visible_until_its_reset(link: RunLink) -> None:
    callback = Sets(should_save=True)
    link.gate.add(callback)
    assert set(step(link)) == {"save"}
    callback.flags = {}
    assert step(link) == {}
    assert link.control.should_save
    link.reset_flags("save")
    assert not any(link.control.flags)
    assert step(link) == {}


def test_clearing_a_flag_that_has_become_a_vote_takes_the_vote_back(link: RunLink) -> None:
    callback = Sets(should_save=True)
    link.gate.add(callback)
    link.emit("step_end")
    link.collect_gate_votes()
    callback.flags = {"should_save": False}
    assert step(link) == {}
    assert not link.votes.has_votes


def test_a_reset_takes_no_vote_back(link: RunLink) -> None:
    link.gate.add(Sets(should_save=True))
    link.emit("step_end")
    link.reset_flags("save")
    outcome = link.votes.decide("save", 1)
    assert outcome is not None
    assert outcome.decision.carried


def test_who_asks_for_what_has_been_asked_for_is_on_record_too(link: RunLink) -> None:
    first, second = Sets(should_save=True), Setter()
    link.gate.add(first)
    link.gate.add(second)
    link.emit("step_end")
    link.collect_gate_votes()
    first.flags, second.flags = {}, {"should_save": True}
    link.emit("step_end")
    link.collect_gate_votes()
    outcome = link.votes.decide("save", 1)
    assert outcome is not None
    assert [vote.voter for vote in outcome.decision.votes] == ["Sets", "Setter"]


def test_a_returned_control_is_adopted_and_anything_else_ignored(link: RunLink) -> None:
    class Returns(TrainerCallback):
        def __init__(self, result: object) -> None:
            self.result = result

        def on_step_end(
            self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> object:
            return self.result

    class Partial:
        should_training_stop = True

    link.gate.add(Sets(should_log=True))
    returns = Returns(TrainerControl(should_save=True))
    link.gate.add(returns)
    votes = step(link)
    assert set(votes) == {"save"}, "the returned control replaces the flags"
    assert votes["save"].voter == "Returns"
    for nonsense in (None, True, "save", Partial()):
        returns.result = nonsense
        assert set(step(link)) == {"log"}


def test_hooks_get_live_references_and_keywords(bus: EventBus) -> None:
    seen: dict[str, Any] = {}

    class Probe(TrainerCallback):
        def on_log(
            self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            seen.update(kwargs, args=args, state=state, control=control)

        def on_evaluate(
            self,
            args: Any,
            state: TrainerState,
            control: TrainerControl,
            metrics: Any = None,
            **kwargs: Any,
        ) -> None:
            seen["metrics"] = metrics

        def on_run_failed(
            self,
            args: Any,
            state: TrainerState,
            control: TrainerControl,
            error: Any = None,
            **kwargs: Any,
        ) -> None:
            seen["error"] = error

    state = TrainerState()
    heard: list[Any] = []
    bus.subscribe("log")(heard.append)
    link = bus.open_run(state)
    link.context = lambda: {"args": "the args", "state": state, "model": "the model"}
    link.gate.add(Probe())
    logs = {"loss": 1.0}
    link.emit("log", {"logs": logs})
    assert (seen["args"], seen["model"], seen["logs"]) == ("the args", "the model", logs)
    assert seen["state"] is state
    assert seen["control"] is link.control
    seen["logs"]["loss"] = 7.0
    assert logs == {"loss": 7.0}, "a callback edits what the caller goes on with"
    bus.flush(10)
    assert heard[0].logs == {"loss": 1.0}, "and not what others are told"
    link.emit("evaluate", {"metrics": {"eval_loss": 2.0}})
    assert seen["metrics"] == {"eval_loss": 2.0}
    error = RuntimeError("out of memory")
    link.emit("run_failed", {"error": "", "message": "", "traceback": ""}, note=error)
    assert seen["error"] is error


def test_one_dict_of_logs_goes_to_all_callbacks_in_turn(link: RunLink) -> None:
    seen: list[dict[str, float]] = []

    class Adds(TrainerCallback):
        def on_log(
            self,
            args: Any,
            state: TrainerState,
            control: TrainerControl,
            logs: Any = None,
            **kwargs: Any,
        ) -> None:
            logs[f"number {len(seen)}"] = 1.0
            seen.append(dict(logs))

    link.gate.add(Adds())
    link.gate.add(Adds())
    link.emit("log", {"logs": {}})
    assert seen == [{"number 0": 1.0}, {"number 0": 1.0, "number 1": 1.0}]


def test_inherited_hooks_are_not_listeners(link: RunLink) -> None:
    class Base(TrainerCallback):
        def on_log(
            self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None: ...

    class Derived(Base):
        on_not_an_event = 3

    assert overridden_hooks(TrainerCallback()) == frozenset()
    assert overridden_hooks(Derived()) == {"log"}
    link.gate.add(TrainerCallback())
    link.gate.add(Derived())
    assert link.emitters["log"].active
    assert not any(e.active for kind, e in link.emitters.items() if kind != "log")
    link.gate.remove(link.gate.callbacks[1].callback)
    assert not link.emitters["log"].active


def test_hugging_face_classes_are_recognised_by_their_shape() -> None:
    theirs = type("TrainerCallback", (), {})

    def inherited(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None: ...

    inherited.__module__ = "transformers.trainer_callback"
    inherited.__qualname__ = "TrainerCallback.on_log"
    theirs.on_log = inherited  # type: ignore[attr-defined]

    class Mine(theirs):  # type: ignore[misc, valid-type]
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None: ...

    assert overridden_hooks(Mine()) == {"save"}


def test_an_error_in_a_callback_never_ends_the_run(
    bus: EventBus, link: RunLink, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(TrainerCallback):
        def on_step_end(
            self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            raise ValueError("callback is broken")

    others = Recorder()
    bus.subscribe(SubscriberFailed)(others)
    link.gate.add(Bad())
    link.gate.add(Sets(should_save=True))
    for _ in range(8):
        assert set(step(link)) == {"save"}
    assert bus.flush(10)
    row = next(row for row in bus.ledger if row.subscriber == "Bad")
    assert (row.failures, row.dropped, row.delivery) == (5, {"quarantine": 3}, "gate")
    assert "5 failures in a row" in row.quarantined
    assert "ValueError: callback is broken" in caplog.text
    assert len(others.events) == 5


def test_an_exception_that_is_no_error_goes_through(link: RunLink) -> None:
    class Interrupts(TrainerCallback):
        def on_step_end(
            self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            raise KeyboardInterrupt

    link.gate.add(Interrupts())
    with pytest.raises(KeyboardInterrupt):
        link.emit("step_end")


def test_the_guard_surrounds_all_but_those_that_change_nothing(bus: EventBus) -> None:
    entered: list[str] = []

    class Harmless(Sets):
        changes_nothing = True

    def gate(event: Event) -> None:
        entered.append("gate")

    bus.subscribe("step_end", delivery="gate")(gate)
    link = bus.open_run(TrainerState())

    @contextlib.contextmanager
    def guard() -> Iterator[None]:
        entered.append("guard")
        yield

    link.gate.guard = guard
    link.gate.add(Harmless())
    step(link)
    assert entered == ["guard", "gate"]
    link.gate.add(Sets())
    step(link)
    assert entered == ["guard", "gate", "guard", "guard", "gate"]


def test_the_votes_of_a_schedule_are_marked_and_reasons_go_along(link: RunLink) -> None:
    class Flow(Sets):
        is_schedule = True

    class Stopper(Sets):
        reason = "no gain in 3 evaluations"

    link.gate.add(Flow(should_log=True))
    link.gate.add(Stopper(should_training_stop=True))
    link.state.global_step = 4
    link.emit("step_end")
    votes = {vote.action: (vote, scheduled) for vote, scheduled in link.gate.votes(4)}
    assert votes["log"][1] is True
    assert (votes["stop"][0].reason, votes["stop"][1]) == ("no gain in 3 evaluations", False)


def test_exact_votes_of_gate_handlers(bus: EventBus) -> None:
    @bus.subscribe("step_end", delivery="gate", name="exact")
    def exact(event: StepEnd) -> Vote | None:
        return Vote("save") if event.step == 2 else None

    link = bus.open_run(TrainerState())
    assert [set(step(link)) for _ in range(3)] == [set(), {"save"}, set()]
