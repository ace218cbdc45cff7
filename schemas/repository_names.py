"""What a repository on the Hugging Face Hub may be called."""

from __future__ import annotations

import re

MOST_CHARACTERS = 96
"""In each of the parts."""
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")


def repository_problem(name: str) -> str | None:
    """What is wrong with a repository's name, `name` or `owner/name`; None where nothing is."""
    parts = name.split("/")
    if len(parts) > 2:
        return "it should be a name or owner/name, with one slash at most"
    if not all(_PART.fullmatch(part) for part in parts) or "--" in name or ".." in name:
        return (
            "it should have letters, digits, '-', '_' and '.', no '--' nor '..', and neither '-' "
            "nor '.' at an end of a part"
        )
    if max(map(len, parts)) > MOST_CHARACTERS or name.endswith(".git"):
        return f"it should have at most {MOST_CHARACTERS} characters and not end in '.git'"
    return None
