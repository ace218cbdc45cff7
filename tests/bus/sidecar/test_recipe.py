"""What may cross into another process, and what a refusal says."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepbus.bus import EventBus, Subscriber
from stepbus.bus.sidecar.recipe import Recipe, find, reference_to
from stepbus.bus.subscription import Subscription
from stepbus.schemas import ArgumentError, DeliveryError, Event, Log
from tests.bus.sidecar import handlers

HERE = "tests.bus.sidecar.handlers"


def recipe(bus: EventBus) -> Recipe:
    subscription: Subscription = bus._roster.subscriptions[-1]
    assert subscription.recipe is not None
    return subscription.recipe


def process(*events: Any, **options: Any) -> Callable[[EventBus, Any], Any]:
    def subscribe(bus: EventBus, handler: Any) -> Any:
        return bus.subscribe(*(events or ("log",)), delivery="process", **options)(handler)

    return subscribe


def test_a_function_crosses_by_its_name() -> None:
    bus = EventBus()
    bus.subscribe("step_end", handlers.Spike, delivery="process", when=handlers.is_even)(
        handlers.ignore
    )
    assert recipe(bus) == Recipe(
        f"{HERE}:ignore",
        events=("stepbus.schemas.events:StepEnd", f"{HERE}:Spike"),
        when=f"{HERE}:is_even",
    )
    for name in (recipe(bus).target, *recipe(bus).events, recipe(bus).when):
        assert name is not None
        assert reference_to(find(name)) == name


def test_a_class_crosses_with_its_arguments() -> None:
    bus = EventBus()
    made = bus.subscribe(handlers.Writer, arguments={"path": "a"}, delivery="process")
    assert isinstance(made, handlers.Writer)
    assert recipe(bus) == Recipe(f"{HERE}:Writer", arguments={"path": "a"})
    bus.unsubscribe(made)
    bus.subscribe(handlers.Writer("b"), delivery="process")
    assert recipe(bus).arguments == {"path": "b"}
    bus.subscribe(handlers.WithoutConstructor, delivery="process")
    assert recipe(bus).arguments == {}
    bus.subscribe(handlers.WithoutConstructor(), delivery="process")
    assert recipe(bus).arguments == {}


def test_a_class_is_made_with_its_arguments_for_a_thread_too() -> None:
    bus = EventBus()
    assert bus.subscribe(handlers.Writer, arguments={"path": "a"}).path == "a"


def changed() -> Subscriber:
    subscriber = handlers.WithoutConstructor()
    subscriber.extra = 1  # type: ignore[attr-defined]
    return subscriber


class Local(Subscriber):
    """At the top of this module."""

    def on_log(self, event: Log) -> None: ...

    def handle(self, event: Event) -> None: ...

    @classmethod
    def of_class(cls, event: Event) -> None: ...

    @staticmethod
    def static(event: Event) -> None: ...


def inner() -> Any:
    def handler(event: Event) -> None: ...

    return handler


def imposter(event: Event) -> None: ...


imposter.__qualname__ = "Local"


def test_methods_of_classes_cross() -> None:
    bus = EventBus()
    for method in (Local.of_class, Local.static):
        process()(bus, method)
        assert find(recipe(bus).target) == method


async def handle_async(event: Event) -> None: ...


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (lambda event: None, "a lambda cannot be handed to a process: it has no name"),
        (handlers.handler_of_a_lambda, "a lambda cannot be handed to a process"),
        (inner(), "handler cannot .* it is defined inside of a function: move it to the top"),
        (Local().handle, "Local.handle cannot .* it is a method of an instance"),
        (functools.partial(handlers.ignore), "ignore cannot .* functools.partial has no name"),
        (imposter, "is something else, or cannot be imported"),
        (handle_async, "without async"),
    ],
)
def test_a_handler_without_a_name_is_refused(handler: Any, says: str) -> None:
    with pytest.raises(ArgumentError, match=says) as caught:
        process()(EventBus(), handler)
    assert "async" in says or "or use delivery='thread'" in str(caught.value)


@pytest.mark.parametrize(
    ("subscribe", "says"),
    [
        (process(when=lambda event: True), "a lambda cannot be handed to a process"),
        (process(arguments={}), r"arguments= is for a Subscriber class"),
        (
            lambda bus, _: bus.subscribe("log", own=True)(handlers.ignore),
            "own=True is for delivery='process', and this is None",
        ),
        (
            lambda bus, _: bus.subscribe(handlers.Mute("x"), delivery="process"),
            r"Mute is given as an instance.* bus.subscribe\(Mute, arguments=\{...\}",
        ),
        (
            lambda bus, _: bus.subscribe(handlers.OtherConstructor("x", "y"), delivery="process"),
            "OtherConstructor is given as an instance",
        ),
        (lambda bus, _: bus.subscribe(changed(), delivery="process"), "given as an instance"),
        (
            lambda bus, _: bus.subscribe(
                handlers.Writer, arguments={"path": Path("x")}, delivery="process"
            ),
            r"Writer: the argument 'path' holds .*Path\('x'\), which is no JSON.* str\(path\)",
        ),
        (
            lambda bus, _: bus.subscribe(
                handlers.Writer, arguments={"path": {"a": [(1, 2)]}}, delivery="process"
            ),
            r"holds \(1, 2\), which is no JSON",
        ),
        (
            lambda bus, _: bus.subscribe(
                handlers.Writer, arguments={"path": {1: 2}}, delivery="process"
            ),
            r"holds \{1: 2\}, which is no JSON",
        ),
        (
            lambda bus, _: bus.subscribe(handlers.Writer, delivery="process"),
            r"Writer cannot be made with arguments=\{\}: .*'path'",
        ),
        (
            lambda bus, _: bus.subscribe(handlers.Writer("x"), arguments={"path": "x"}),
            "arguments= is for a class",
        ),
    ],
)
def test_what_does_not_cross_is_refused(subscribe: Any, says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        subscribe(EventBus(), handlers.ignore)


@pytest.mark.parametrize("how", ["script", "-c", "-"])
def test_a_name_from_main_is_refused(how: str, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        from stepbus import ArgumentError, Event, EventBus, Subscriber

        def handle(event): pass

        class Mine(Subscriber):
            def on_log(self, event): pass

        class Own(Event):
            name: str = "own_of_main"

        import tests.bus.sidecar.handlers as handlers

        for subscribe in (
            lambda bus: bus.subscribe("log", delivery="process")(handle),
            lambda bus: bus.subscribe(Mine, delivery="process"),
            lambda bus: bus.subscribe(Own, delivery="process")(handlers.ignore),
        ):
            try:
                subscribe(EventBus())
            except ArgumentError as error:
                print(error)
        """
    )
    (tmp_path / "script.py").write_text(program)
    words = {"script": [str(tmp_path / "script.py")], "-c": ["-c", program], "-": ["-"]}[how]
    done = subprocess.run(
        [sys.executable, *words],
        input=program if how == "-" else "",
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refusals = done.stdout.splitlines()
    assert len(refusals) == 3, done.stdout
    for name, refusal in zip(("handle", "Mine", "Own"), refusals, strict=True):
        assert refusal.startswith(
            f"{name} cannot be handed to a process: it is defined in __main__"
        )
        assert "move it to a module of its own" in refusal
        assert "or use delivery='thread'" in refusal


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(DeliveryError, match=r"no_such_module_\w+:x cannot be imported"):
        find("no_such_module_anywhere:x")
    with pytest.raises(DeliveryError, match="cannot be imported"):
        find(f"{HERE}:nothing")


def test_a_decorator_may_run_before_its_module_has_the_name(tmp_path: Path) -> None:
    module = tmp_path / "decorated_module_of_a_test.py"
    module.write_text(
        "from stepbus.bus import EventBus\n"
        "bus = EventBus()\n"
        "@bus.subscribe('step_end', delivery='process', required=True)\n"
        "def handle(event):\n"
        "    from stepbus.schemas import Vote\n"
        "    return Vote('save')\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import importlib

        bus: EventBus = importlib.import_module(module.stem).bus
        with bus:
            from stepbus.schemas import TrainerState

            link = bus.open_run(TrainerState())
            link.emit("step_end")
            assert bus.flush(30)
            assert link.votes.has_votes
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop(module.stem, None)


def test_a_type_checker_knows_what_is_made() -> None:
    bus = EventBus()

    @bus.subscribe("log", delivery="thread")
    def handle(event: Log) -> None: ...

    made: handlers.Writer = bus.subscribe(
        handlers.Writer, arguments={"path": "x"}, delivery="process", own=True
    )
    assert made.path == "x"
