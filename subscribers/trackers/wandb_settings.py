"""What wandb's callback was told: what it uploads, whether it has a key."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ...schemas.errors import ArgumentError

WATCHED = ("gradients", "parameters", "all")
OFFLINE = ("offline", "dryrun")
UPLOADS: Mapping[str, Literal["no", "checkpoint", "end"]] = {
    "false": "no",
    "checkpoint": "checkpoint",
    "end": "end",
}


def uploads_of(chosen: str | bool, source: str) -> Literal["no", "checkpoint", "end"]:
    """What is to be uploaded.

    Args:
        chosen: what somebody said.
        source: where.

    Raises:
        ArgumentError: it is none of the values that there are.
    """
    if isinstance(chosen, bool):
        chosen = "end" if chosen else "false"
    found = UPLOADS.get(chosen.strip().lower())
    if found is None:
        raise ArgumentError(f"{source} is {chosen!r}: it must be 'checkpoint', 'end' or 'false'.")
    return found


def has_key() -> bool:
    """Whether wandb will find a key in its variable or where `wandb login` has put it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    files = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    for file in filter(None, files):
        try:
            if netrc.netrc(Path(file).expanduser()).authenticators(host) is not None:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
