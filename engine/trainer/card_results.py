"""What a model card tells of a run's history: a row for each evaluation, and the last one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]

_SPEEDS = frozenset({"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"})
_ABOUT = frozenset({"runtime", "samples_per_second", "steps_per_second", "epoch", "step"})


class Results(NamedTuple):
    """Both are None where the history has none."""

    rows: list[dict[str, Any]] | None
    """The training, evaluation by evaluation, by the name of the column."""
    last: dict[str, Any] | None
    """The metrics of the last evaluation, by the name that is shown."""


def results_of(history: Sequence[Row]) -> Results:
    """The results in a history of logs.

    Without a training the last evaluation is shown as it was logged.
    """
    end = next((at for at, row in enumerate(history) if "train_runtime" in row), None)
    evaluated = [at for at, row in enumerate(history) if "eval_loss" in row]
    if end is None:
        return Results(None, dict(history[evaluated[-1]]) if evaluated else None)
    rows, training_loss = [], "No log"
    for row in history[:end]:
        training_loss = row.get("loss", training_loss)
        if "eval_loss" in row:
            rows.append(_row(row, training_loss))
    if not evaluated or evaluated[-1] == 0:
        return Results(rows, None)
    last = {name.removeprefix("eval_"): value for name, value in history[evaluated[-1]].items()}
    shown = {_titled(name.split("_")): v for name, v in last.items() if name not in _ABOUT}
    return Results(rows, shown)


def _row(logged: Row, training_loss: Any) -> dict[str, Any]:
    row = {
        "Training Loss": training_loss,
        "Epoch": logged.get("epoch"),
        "Step": logged.get("step"),
    }
    for name, value in logged.items():
        if name == "eval_loss":
            row["Validation Loss"] = value
        elif name not in {*_SPEEDS, "total_flos", "epoch", "step"}:
            row[_titled(name.split("_")[1:])] = value
    return row


def _titled(words: Sequence[str]) -> str:
    return " ".join(word.capitalize() for word in words)


def rounded(value: Any) -> str:
    """A number with four decimals at most; anything else as text."""
    text = str(value)
    if isinstance(value, float) and len(text.partition(".")[2]) > 4:
        return f"{value:.4f}"
    return text


def table(rows: Sequence[Row]) -> str:
    """A table in Markdown whose columns are those of the first row; empty without rows."""
    if not rows:
        return ""
    cells = [list(rows[0]), *([rounded(row.get(name, "")) for name in rows[0]] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [
        _line(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    ]
    lines.insert(1, "|" + "".join(f":{'-' * width}:|" for width in widths))
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return "|" + "".join(f" {cell} |" for cell in cells)
