"""A checkpoint that somebody reads is not to be rotated away."""

import threading
from collections.abc import Callable

import anyio
import pytest

from stepbus.bus import EventBus, Lease
from stepbus.bus.testing import Recorder
from stepbus.schemas import Event, Save, TrainerState

MakeBus = Callable[..., EventBus]


def test_holders_are_those_who_have_not_let_go() -> None:
    lease = Lease()
    lease.acquire("a")
    lease.acquire("a")
    with lease.hold("b"):
        assert list(lease.holders) == ["a", "b"]
    lease.release("a")
    assert list(lease.holders) == ["a"]
    lease.release("a")
    lease.release("a")
    lease.release("a stranger")
    assert list(lease.holders) == []
    lease.acquire("a")
    assert list(lease.holders) == ["a"], "releasing too often is no credit"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_handler_holds_the_folder_until_it_returns(bus: EventBus, asynchronous: bool) -> None:
    inside, release = threading.Event(), threading.Event()

    if asynchronous:

        @bus.subscribe("save", name="reader")
        async def reads(event: Save) -> None:
            inside.set()
            await anyio.to_thread.run_sync(release.wait)

    else:

        @bus.subscribe("save", name="reader")
        def reads_in_thread(event: Save) -> None:
            inside.set()
            release.wait(30)

    lease = Lease()
    bus.open_run(TrainerState()).emit("save", {"path": "checkpoint-1"}, note=lease)
    assert inside.wait(10)
    assert list(lease.holders) == ["reader"]
    release.set()
    assert bus.flush(10)
    assert list(lease.holders) == []


def test_a_failing_filtered_or_quarantined_subscriber_lets_go(bus: EventBus) -> None:
    def fail(event: Event) -> None:
        raise ValueError

    bus.subscribe("save", name="bad", quarantine_after=1)(fail)
    bus.subscribe("save", name="picky", when=lambda event: False)(lambda event: None)
    link = bus.open_run(TrainerState())
    leases = [Lease() for _ in range(3)]
    for lease in leases:
        link.emit("save", {"path": "x"}, note=lease)
    assert bus.flush(10)
    assert [lease.holders for lease in leases] == [(), (), ()]


def test_an_event_may_be_held_for_longer(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("save")(recorder)
    lease = Lease()
    bus.open_run(TrainerState()).emit("save", {"path": "x"}, note=lease)
    event = recorder.wait_for("save")[0]
    assert bus.flush(10)
    with event.lease.hold("uploader"):
        assert list(lease.holders) == ["uploader"]
    assert list(lease.holders) == []


def test_what_waits_for_a_hung_subscriber_is_let_go_of_at_the_close() -> None:
    hung, release = threading.Event(), threading.Event()
    bus = EventBus().start()

    @bus.subscribe("save", name="hung")
    def hang(event: Event) -> None:
        hung.set()
        release.wait(60)

    link = bus.open_run(TrainerState())
    leases = [Lease() for _ in range(3)]
    for lease in leases:
        link.emit("save", {"path": "x"}, note=lease)
    assert hung.wait(10)
    (thread,) = [t for t in threading.enumerate() if t.name == "stepbus-hung"]
    bus.close(0.3)
    assert [lease.holders for lease in leases] == [("hung",), (), ()]
    release.set()
    thread.join(10)
    assert list(leases[0].holders) == []


def test_a_published_save_needs_no_lease(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("save")(recorder)
    bus.publish(Save(path="x"))
    recorder.wait_for("save")
    assert bus.flush(10)
