"""Logged values and durations as people read them."""

from __future__ import annotations

from collections.abc import Mapping

HIDDEN = frozenset(
    {
        "eval_samples_per_second",
        "eval_steps_per_second",
        "total_flos",
        "train_samples_per_second",
    }
)
"""Values that tell people little while they watch; every tracker and history has them."""
LONGEST = 100
"""Characters of a logged string that are shown."""


def shown_value(value: float | int | str | None, longest: int = LONGEST) -> str:
    """A value with four significant digits; a string is cut to so many characters."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= longest else f"{text[: max(0, longest - 3)]}..."


def log_line(
    step: int, logs: Mapping[str, float | int | str | None], longest: int = LONGEST
) -> str:
    """Logged values in one line, such as `step 120  loss 1.934  learning_rate 0.0018`."""
    parts = [f"{name} {shown_value(v, longest)}" for name, v in logs.items() if name not in HIDDEN]
    return "  ".join([f"step {step}", *parts])


def clock_text(seconds: float) -> str:
    """A duration as 0:42, 12:05 or 3:12:05."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
