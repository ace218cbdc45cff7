"""Progress in a notebook, run by a real kernel."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

CELL = """
    from stepbus.bus import EventBus
    from stepbus.schemas import TrainerState
    from stepbus.subscribers import ProgressCallback

    bus = EventBus()
    bus.subscribe(ProgressCallback(), required=True)
    bus.start()
    state = TrainerState()
    link = bus.open_run(state)
    link.emit("train_begin", {"max_steps": 20})
    for step in (10, 20):
        state.global_step = step
        link.emit("step_end", {"loss": 1.5, "step_s": 0.1})
        link.emit("log", {"logs": {"loss": 1.5 / step}})
        link.emit("log", {"logs": {"eval_loss": 2.5 / step, "<b>": "<i>"}})
    link.emit("train_end", {})
    bus.flush(10)
    failures = [row.failures for row in bus.ledger]
    bus.close()
    assert failures == [0], failures
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_one_table_is_kept_up_to_date(tmp_path: Path) -> None:
    kernel = {"display_name": "Python", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell(textwrap.dedent(CELL))]
    client = nbclient.NotebookClient(notebook, timeout=90, kernel_name="python3")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    client.execute(env=environment, cwd=str(tmp_path))
    outputs: list[Any] = notebook.cells[0].outputs
    pages = [out["data"]["text/html"] for out in outputs if "text/html" in out.get("data", {})]
    assert len(pages) == 1, outputs
    page = pages[0]
    assert "<th>step</th><th>loss</th><th>eval_loss</th><th>&lt;b&gt;</th>" in page
    assert "<td>10</td><td>0.15</td><td>0.25</td><td>&lt;i&gt;</td>" in page
    assert "<td>20</td><td>0.075</td><td>0.125</td>" in page
    assert "20/20" in page
    assert "finished: 20 steps" in page
