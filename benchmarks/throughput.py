"""Part 4, throughput, lag, and memory under a subscriber that is stuck."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from stepbus import Event
from stepbus.cli.bench.figures import Figure, Unit

from .bench_bus import VALUES, Bench, ignore
from .emit_peers import PEERS, Dispatcher, Missing
from .part import Part, Tell

PART = "throughput"
COUNTS = (1, 4, 16)
EVENTS = 20_000
"""Events in a round; fewer than a mailbox holds, so that none is lost."""
OURS, AGAIN = "stepbus, thread", "stepbus, thread, once more"
STUCK = "memory under a stuck subscriber"
NOTE = """\
Events a second from the first emit to the last handler's end, in rounds of 20,000; the interval \
is the middle half of the rounds. blinker and pyee call their handlers within the emit: what \
they do, the training thread does. Lag: from emit to handler at one event in 0.4 ms; the pump \
looks every 10 ms. Memory: the most that a process came to, over what it had before the events; \
the control is the same with a subscriber that is not stuck."""


def run(quick: bool, tell: Tell) -> Part:
    """Measures this part."""
    part = Part(PART, "Throughput, lag and memory", notes=[NOTE])
    gc.collect()
    gc.freeze()
    for count in COUNTS:
        tell(f"events to {count} subscribers")
        part.figures += _rates(count, 3 if quick else 11, part.gaps)
    tell("lag")
    part.figures += _lag(1.5 if quick else 10.0)
    tell("memory under a stuck subscriber")
    part.figures += _memory(100_000 if quick else 1_000_000)
    gc.unfreeze()
    return part


def _rates(count: int, rounds: int, gaps: list[str]) -> list[Figure]:
    """Events a second by each way, in one interleaving; stepbus twice, as its own control."""
    ways: dict[str, Callable[[], float]] = {}
    with contextlib.ExitStack() as resources:
        for name in (OURS, AGAIN):
            bench = Bench(0)
            for number in range(count):
                bench.bus.subscribe("step_end", name=f"counter-{number}")(ignore)
            resources.callback(bench.close)
            ways[name] = functools.partial(_bus, bench)
        ways["SimpleQueue + 1 thread"] = functools.partial(_queue, count)
        for name in ("blinker", "pyee", "bubus"):
            try:
                peer = PEERS[name](count)
            except Missing as missing:
                gaps += [f"{name}: {missing}"] if count == COUNTS[0] else []
                continue
            resources.callback(peer.close)
            ways[name] = functools.partial(_peer, peer)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        # The first round warms up.
        for number in range(rounds + 1):
            for name, way in ways.items():
                if number:
                    rates[name].append(way())
                else:
                    way()
    strays = abs(statistics.median(rates[OURS]) - statistics.median(rates[AGAIN]))
    case = f"{count} subscriber{'' if count == 1 else 's'}"
    return [
        Figure(
            PART,
            case,
            name,
            "events/s",
            statistics.median(taken),
            "1/s",
            floor=strays,
            interval=_middle(taken),
            samples=len(taken),
        )
        for name, taken in rates.items()
    ]


def _bus(bench: Bench) -> float:
    started = time.perf_counter()
    bench.emit_batch(EVENTS)
    if not bench.bus.flush(60):
        raise RuntimeError("events were not handled within a minute")
    rate = EVENTS / (time.perf_counter() - started)
    lost = sum(row.num_dropped for row in bench.bus.ledger)
    if lost:
        raise RuntimeError(f"{lost} events were dropped: the figure would mean nothing")
    return rate


def _peer(peer: Dispatcher) -> float:
    events = 20 if getattr(peer, "slow", False) else EVENTS
    started = time.perf_counter()
    peer.emit_batch(events)
    return events / (time.perf_counter() - started)


def _queue(count: int) -> float:
    """A queue that one thread empties into `count` functions; events a second."""
    queue: SimpleQueue[dict[str, float] | None] = SimpleQueue()
    handlers: Sequence[Callable[[object], None]] = [ignore] * count

    def serve() -> None:
        while (event := queue.get()) is not None:
            for handler in handlers:
                handler(event)

    thread = threading.Thread(target=serve, daemon=True)
    started = time.perf_counter()
    thread.start()
    for _ in range(EVENTS):
        queue.put(VALUES)
    queue.put(None)
    thread.join()
    return EVENTS / (time.perf_counter() - started)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]


def _lag(seconds: float) -> list[Figure]:
    """How old an event is when its handler starts, at one event in 0.4 ms."""
    bench = Bench(0)
    lags: list[float] = []

    @bench.bus.subscribe("step_end", name="lag")
    def note(event: Event) -> None:
        lags.append(time.monotonic() - event.monotonic)

    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        bench.emitter.emit(VALUES)
        time.sleep(0.0004)
    bench.bus.flush(10)
    bench.close()
    lags.sort()
    case = "lag at an event in 0.4 ms"
    return [
        _figure(case, OURS, f"lag {name}", lags[int(share * (len(lags) - 1))] * 1e3, "ms")
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    ]


def _memory(events: int) -> list[Figure]:
    stuck, free = (_process(kind, events) for kind in ("stuck", "free"))
    case = f"{STUCK}, {events:,} events"
    measure = "MB over the start"
    control = free["mb"]
    return [
        Figure(PART, case, "stepbus", measure, stuck["mb"], "MB", control=control),
        Figure(PART, case, "stepbus, subscriber not stuck", measure, control, "MB"),
        Figure(PART, case, "stepbus", "events held", stuck["pending"], ""),
        Figure(PART, case, "stepbus", "events dropped", stuck["dropped"], ""),
    ]


def _process(kind: str, events: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", kind, str(events)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"benchmarks.memory {kind} failed:\n{done.stdout}{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _figure(case: str, subject: str, measure: str, value: float, unit: Unit) -> Figure:
    return Figure(PART, case, subject, measure, value, unit)
