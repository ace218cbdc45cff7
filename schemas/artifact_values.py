"""What an artifact holds beside its name: bytes that travel in JSON, and the cells of a table."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Annotated, Any

import pydantic_core
from pydantic import BeforeValidator, PlainSerializer

from .values import NON_FINITE, Scalar

Row = tuple[Scalar, ...]
"""A row of a table."""


def _from_base64(value: Any) -> Any:
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


def _to_base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _restore_cells(rows: Any) -> Any:
    if not isinstance(rows, list | tuple):
        return rows
    return tuple(
        tuple(NON_FINITE.get(cell, cell) if type(cell) is str else cell for cell in row)
        if isinstance(row, list | tuple)
        else row
        for row in rows
    )


# In a dump too, so that whatever writes one as JSON writes what `parse_event` reads.
Data = Annotated[bytes, BeforeValidator(_from_base64), PlainSerializer(_to_base64)]
"""Bytes; in JSON, and in a dump of the model, as base64. Text stands for base64."""

Rows = Annotated[tuple[Row, ...], BeforeValidator(_restore_cells)]
"""Rows of a table. The strings "NaN", "Infinity" and "-Infinity" mean the numbers."""


def table_to_json(columns: Iterable[str], rows: Iterable[Row]) -> bytes:
    """A table as a file holds it: `{"columns": [...], "rows": [[...], ...]}`."""
    table = {"columns": tuple(columns), "rows": tuple(rows)}
    return pydantic_core.to_json(table, inf_nan_mode="strings")


def table_from_json(data: bytes) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """The columns and rows of a table that `table_to_json` wrote.

    Raises:
        ValueError: it did not.
    """
    table = pydantic_core.from_json(data)
    try:
        return tuple(table["columns"]), _restore_cells(table["rows"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"This is no table: {data[:80]!r}.") from error
