"""The page shows the table that the code goes by."""

from __future__ import annotations

from pathlib import Path

from stepbus.engine.bridges.lightning_names import NAMES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "from_lightning.md"


def test_the_page_has_every_row_of_the_table_in_its_order() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    begin = lines.index("| Lightning | event | |") + 2
    rows = [
        f"| `{name.theirs}` | `{name.ours}` | {name.when} |".replace("|  |", "| |")
        for name in NAMES
    ]
    assert lines[begin : begin + len(rows) + 1] == [*rows, ""]
