"""Which of several processes this is, and how they name their run alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from ...bus.diagnostics import get_logger
from ..run_identity import RunIdentity

log = get_logger()

WAIT_S = 30.0
"""How long a rank waits to be told the name of its run."""
REFUSAL = (
    "several ranks: a vote is known to one rank alone, and an action that the others do not join "
    "would leave all of them waiting for each other"
)
"""What a vote is answered with."""


class Ranks(NamedTuple):
    """A process among those that train together."""

    rank: int = 0
    num_ranks: int = 1

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.num_ranks > 1


def ranks_of(environ: Mapping[str, str] = os.environ) -> Ranks:
    """This process by `RANK` and `WORLD_SIZE`, as torchrun sets them; the only one without."""
    try:
        return Ranks(int(environ.get("RANK", "0")), int(environ.get("WORLD_SIZE", "1")))
    except ValueError:
        return Ranks()


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
