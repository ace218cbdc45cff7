"""Checks of the numbers that users give: whole counts and times in seconds."""

from __future__ import annotations

from ..schemas.errors import ArgumentError


def check_count(name: str, value: object, least: int) -> None:
    """Raises ArgumentError unless the value is None or a whole number of at least `least`."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{name}={value!r}: give a whole number of at least {least}.")


def check_seconds(name: str, value: object) -> None:
    """Raises ArgumentError unless the value is None or a number of seconds above 0."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ArgumentError(f"{name}={value!r}: give seconds above 0.")
