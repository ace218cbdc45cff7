"""How several processes that train together name their run alike, and what votes come to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ...bus.diagnostics import get_logger
from ...bus.ranks import Ranks
from ..run_identity import RunIdentity

log = get_logger()

WAIT_S = 30.0
"""How long a rank waits to be told the name of its run."""
REFUSAL = (
    "several ranks: a vote is known to one rank alone, and an action that the others do not join "
    "would leave all of them waiting for each other"
)
"""What a vote is answered with."""


def agreed(identity: RunIdentity, ranks: Ranks, number: int) -> RunIdentity:
    """The identity that rank 0 proposes, on every rank; on rank 0, and alone, the one given.

    It goes through the store by which the ranks have found each other. That is no collective: a
    rank that has no bridge holds nobody up.

    Args:
        identity: what this rank would call the run.
        ranks: which rank this is.
        number: how many runs this process has opened before.
    """
    store = _store() if ranks.several else None
    if store is None:
        return identity
    key = f"stepbus/run/{number}"
    try:
        if ranks.rank == 0:
            store.set(key, f"{identity.run_id} {identity.attempt}")
            return identity
        store.wait([key], timedelta(seconds=WAIT_S))
        run_id, attempt = store.get(key).decode().split()
        return RunIdentity(run_id, int(attempt))
    except Exception as error:
        log.warning(
            f"rank {ranks.rank} was not told the name of its run and calls it {identity.run_id}: "
            f"{error}"
        )
        return identity


def _store() -> Any:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return None
    return dist.distributed_c10d._get_default_store()
