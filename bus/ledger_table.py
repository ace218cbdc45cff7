"""The ledger in words: columns for whoever draws a table, and a table of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ledger import LedgerRow
    from .run_account import RunCost

DELIVERIES = {
    "gate": "training thread",
    "loop": "event loop",
    "thread": "own thread",
    "process": "another process",
}
LEFT = frozenset({"subscriber", "runs on", "not delivered"})
"""Columns of words; all others hold figures."""
LARGE = 100_000
"""Bytes from which on the memory that events took is worth a column."""


def columns(rows: Sequence[LedgerRow]) -> dict[str, list[str]]:
    """A title and a cell for each row; columns of noughts are left out."""
    found: dict[str, list[str]] = {
        "subscriber": [row.subscriber for row in rows],
        "runs on": [DELIVERIES.get(row.delivery, row.delivery) for row in rows],
        "events": [f"{row.handled:,}" for row in rows],
        "its time": [duration(row.handler_s) for row in rows],
        "longest lag": ["" if row.delivery == "gate" else duration(row.max_lag_s) for row in rows],
        "waiting": [f"{row.pending:,}" if row.pending else "" for row in rows],
        "memory": [size(row.bytes_held) if row.bytes_held else "" for row in rows],
        "most memory": [size(row.peak_bytes) if row.peak_bytes >= LARGE else "" for row in rows],
        "by way of the log": [f"{row.spilled:,}" if row.spilled else "" for row in rows],
        "votes": [str(row.votes or "") for row in rows],
        "step waited": [_waits(row) for row in rows],
        "failed": [f"{row.failures:,}" if row.failures else "" for row in rows],
        "not delivered": [listed(row.dropped) for row in rows],
    }
    return {title: cells for title, cells in found.items() if any(cells)}


def run_lines(run: RunCost) -> list[str]:
    """What a run cost, in a few lines."""
    lines = [f"run {run.run_id}, attempt {run.attempt}: {run.steps:,} steps"]
    if run.steps:
        lines.append(
            f"the training thread spent {run.mean_us:.1f} us a step in stepbus (99 of 100 below "
            f"{run.p99_us:,.0f} us, the dearest {run.max_us:,.0f} us)"
        )
    if run.waits:
        causes = ", ".join(f"{cause} {duration(s)}" for cause, s in run.wait_s.items())
        lines.append(f"it waited for {sum(run.waits.values()):,} device values: {causes}")
    if run.drains:
        lines.append(f"its end waited {duration(run.drain_s)} for the subscribers")
    if run.votes:
        verdicts = f": {listed(run.verdicts)}" if run.verdicts else ""
        lines.append(f"{run.votes:,} votes{verdicts}")
    if run.left_behind:
        lines.append(f"its host was cancelled and went on before {run.left_behind} had stopped")
    return lines


def as_text(rows: Sequence[LedgerRow], runs: Sequence[RunCost]) -> str:
    """The ledger as lines of text, with a table and, under it, what was off."""
    lines = [line for run in runs for line in run_lines(run)]
    if not rows:
        return "\n".join([*lines, "nobody listened"])
    found = columns(rows)
    widths = {title: max(map(len, [title, *cells])) for title, cells in found.items()}
    titles = {title: title for title in found}
    for cells in [titles, *({t: c[n] for t, c in found.items()} for n in range(len(rows)))]:
        padded = (
            cell.ljust(widths[title]) if title in LEFT else cell.rjust(widths[title])
            for title, cell in cells.items()
        )
        lines.append("  ".join(padded).rstrip())
    return "\n".join([*lines, *(row.trouble for row in rows if row.trouble)])


def duration(seconds: float) -> str:
    """Seconds, or milliseconds where they are few."""
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1e3:.1f} ms"


def size(num_bytes: int) -> str:
    """Bytes in the unit that suits them."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= LARGE else f"{num_bytes / 1e3:.1f} kB"


def listed(counts: dict[str, int]) -> str:
    """Counts by name, in one line."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _waits(row: LedgerRow) -> str:
    return f"{row.waits:,} times, {duration(row.wait_s)}" if row.waits else ""
