"""Which of several processes that train together this one is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

ForRanks = Literal["zero", "all"]
FOR_RANKS: tuple[ForRanks, ...] = ("zero", "all")
"""On which ranks a subscriber runs."""


class Ranks(NamedTuple):
    """A process among those that train together."""

    rank: int = 0
    num_ranks: int = 1

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.num_ranks > 1

    def serve(self, ranks: str) -> bool:
        """Whether a subscriber for some ranks runs on this one."""
        return ranks == "all" or not self.several or self.rank == 0


def ranks_of(environ: Mapping[str, str] = os.environ) -> Ranks:
    """This process by `RANK` and `WORLD_SIZE`, as torchrun sets them; the only one without."""
    try:
        return Ranks(int(environ.get("RANK", "0")), int(environ.get("WORLD_SIZE", "1")))
    except ValueError:
        return Ranks()
