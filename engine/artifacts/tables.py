"""Tables to log: rows of plain cells under named columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...schemas.artifact_values import Row, table_to_json
from ...schemas.errors import ArgumentError
from ...schemas.values import Scalar, encodable
from .draft import Draft, checked_tag


def draft_of_table(tag: str, columns: Iterable[str] | None, rows: Iterable[Any]) -> Draft:
    """The draft of a table.

    Args:
        tag: what it is logged as.
        columns: the names of its columns; by default those of the rows that are mappings, in the
            order in which they first come.
        rows: sequences of as many cells as there are columns, or mappings.

    Raises:
        ArgumentError: columns that are no names or come twice, a row of another length, a cell
            that is neither a number nor text.
    """
    tag = checked_tag("log_table", tag)
    table = _Table(tag)
    given = table.rows_of(rows)
    names = table.columns_of(columns, given)
    cells = tuple(table.row(number, row, names) for number, row in enumerate(given))
    fields = {"columns": names, "rows": cells}
    return Draft(
        "table", tag, "application/json", ".json", lambda _: table_to_json(names, cells), fields
    )


class _Table:
    """Checks the parts of one table, and names it in what it says."""

    def __init__(self, tag: str) -> None:
        self._call = f"log_table({tag!r}, ...)"

    def rows_of(self, rows: Any) -> list[Any]:
        if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
            raise ArgumentError(
                f"{self._call} got rows={rows!r:.80}: give a list of rows, each a list or a dict."
            )
        return list(rows)

    def columns_of(self, columns: Iterable[str] | None, rows: Sequence[Any]) -> tuple[str, ...]:
        if columns is None:
            if not rows or not all(isinstance(row, Mapping) for row in rows):
                raise ArgumentError(
                    f"{self._call} got no columns=, and rows that are no dicts with the names of "
                    "theirs: give columns=['name', ...]."
                )
            columns = dict.fromkeys(name for row in rows for name in row)
        names = () if isinstance(columns, str) else tuple(columns)
        if not names or not all(isinstance(name, str) for name in names):
            raise ArgumentError(
                f"{self._call} got columns={columns!r:.80}: give a list of names, each a str."
            )
        twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
        if twice is not None:
            raise ArgumentError(f"{self._call} got the column {twice!r} twice: rename one.")
        return tuple(str(encodable(name)) for name in names)

    def row(self, number: int, row: Any, names: tuple[str, ...]) -> Row:
        if isinstance(row, Mapping):
            cells = [row.get(name) for name in names]
        elif isinstance(row, str | bytes) or not isinstance(row, Iterable):
            raise ArgumentError(f"{self._call} got row {number} as {row!r:.80}: give a list.")
        else:
            cells = list(row)
        if len(cells) != len(names):
            raise ArgumentError(
                f"{self._call} got row {number} with {len(cells)} cells, and there are "
                f"{len(names)} columns: {', '.join(names)}."
            )
        return tuple(
            self._cell(cell, number, name) for cell, name in zip(cells, names, strict=True)
        )

    def _cell(self, cell: Any, number: int, name: str) -> Scalar:
        if isinstance(cell, torch.Tensor) and not cell.is_cpu:
            raise ArgumentError(
                f"{self._call} got a tensor on {cell.device} in row {number}, column {name!r}: "
                "bring the whole column to the host first (column.tolist())."
            )
        if isinstance(cell, np.generic | np.ndarray | torch.Tensor):
            cell = _item(cell)
        if isinstance(cell, str):
            return str(encodable(str.__str__(cell)))
        if cell is None or isinstance(cell, bool):
            return cell
        if isinstance(cell, int | float):
            return float(cell) if isinstance(cell, float) else int(cell)
        raise ArgumentError(
            f"{self._call} got a {type(cell).__name__} in row {number}, column {name!r}: a cell is "
            "a number, a bool, text or None; give str(...) of anything else."
        )


def _item(cell: Any) -> Any:
    try:
        return cell.item()
    except (ValueError, RuntimeError):
        return cell  # Of several values.
