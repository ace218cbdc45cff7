"""Whatever dies whenever: each event is sent, in order, until it is dealt with."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from stepbus.bus.sidecar.window import BATCH, Window
from stepbus.schemas import Event, StepEnd

EVENTS = [StepEnd(step=number) for number in range(2_000)]


@given(
    overflow=st.sampled_from(["spill", "drop_oldest", "latest"]),
    turns=st.lists(
        st.tuples(st.sampled_from(["take", "send", "settle", "die"]), st.integers(1, 600)),
        max_size=60,
    ),
)
def test_what_is_sent_goes_on_where_the_last_process_left_off(
    overflow: str, turns: list[tuple[str, int]]
) -> None:
    kept: deque[Event] = deque()
    window = Window(kept, overflow)
    window.begin()
    taken = dealt_with = got = 0
    for turn, number in turns:
        if turn == "take":
            while window.has_room and number and taken < len(EVENTS):
                window.add(EVENTS[taken])
                taken, number = taken + 1, number - 1
        elif turn == "send":
            due = window.has_unsent
            sent = window.send()
            assert bool(sent) is due
            assert len(sent) <= BATCH
            assert sent == EVENTS[got : got + len(sent)]
            got += len(sent)
        elif turn == "settle":
            number = min(number, got - dealt_with)
            assert (
                list(window.settle_until(dealt_with + number))
                == (EVENTS[dealt_with : dealt_with + number])
            )
            dealt_with += number
        else:
            window.begin()
            window.go_slowly()
            got = dealt_with
        assert window.begins == dealt_with
        assert len(window) == len(kept) == taken - dealt_with
        assert window.is_sent is (got == taken)
        assert window.first is (EVENTS[dealt_with] if taken > dealt_with else None)
        assert window.at(dealt_with - 1) is None
        assert window.at(taken) is None
    assert window.clear() == EVENTS[dealt_with:taken]


def test_after_a_death_a_fatal_event_is_found_alone() -> None:
    window = Window(deque(), "spill")
    for event in EVENTS[:100]:
        window.add(event)
    fatal, num_deaths = EVENTS[70], 0
    sent = window.send()
    while sent != [fatal]:
        if fatal in sent:
            num_deaths += 1
            window.begin()
            window.go_slowly()
        else:
            assert list(window.settle_until(window.begins + len(sent))) == sent
        sent = window.send()
    assert num_deaths < 10
