"""What is off with a subscriber, in words: a short note while it runs, a line at the end."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .ledger_table import listed
from .mailbox import LOSSY

if TYPE_CHECKING:
    from .ledger import LedgerRow

LONGEST = 60
"""Characters of a reason in a note."""


def lost(row: LedgerRow) -> dict[str, int]:
    """Events that it did not get, by cause, but for those that its policy is there to drop."""
    by_policy = {"overflow"} if row.overflow in LOSSY else set()
    return {cause: count for cause, count in row.dropped.items() if cause not in by_policy}


def note(rows: Iterable[LedgerRow]) -> str:
    """What is off at this moment, in a few words; of several, the worst. Empty if nothing is."""
    found = [(rank, text) for row in rows for rank, text in [_present(row)] if text]
    if not found:
        return ""
    _, text = max(found, key=lambda pair: pair[0])
    return f"{text} (and {len(found) - 1} more)" if len(found) > 1 else text


def line(row: LedgerRow) -> str:
    """What was off with a subscriber of a run that has ended; empty if nothing was."""
    parts = []
    if row.stuck:
        parts.append("is stuck in a call that does not return")
    if row.quarantined:
        parts.append(f"was quarantined ({row.quarantined})")
    elif row.failures and not row.stuck:
        parts.append(f"failed {row.failures:,} times" if row.failures > 1 else "failed once")
    if missed := lost(row):
        parts.append(f"did not get {sum(missed.values()):,} events ({listed(missed)})")
    if row.fell_behind:
        often = "" if row.fell_behind == 1 else f" {row.fell_behind} times"
        parts.append(f"fell behind{often} ({row.remedy})")
    return f"{row.subscriber} {', '.join(parts)}" if parts else ""


def _present(row: LedgerRow) -> tuple[int, str]:
    name = row.subscriber
    if row.stuck:
        return 4, f"{name} is stuck"
    if row.quarantined:
        reason = textwrap.shorten(row.quarantined, LONGEST, placeholder="...")
        return 3, f"{name} is out ({reason})"
    if missed := sum(lost(row).values()):
        return 2, f"{name} has lost {missed:,} events"
    if row.behind:
        return 1, f"{name} falls behind, {row.pending:,} events wait: {row.remedy}"
    return 0, ""
