"""The tracker of docs/trackers.md, installed as a third party's package, works by its name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import ROOT, blocks_of

pytestmark = pytest.mark.slow

TRAINING = """
from tests.engine.trainer.conftest import Regression, samples
from stepbus import Trainer, TrainingArguments

args = TrainingArguments(
    "out", max_steps=3, logging_steps=1, report_to="lines", save_strategy="no", use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(model=Regression(), args=args, train_dataset=samples())
trainer.train()
row = next(row for row in trainer.ledger if row.subscriber == "LinesTracker")
print("DELIVERY", row.delivery, row.failures)
"""


def test_it_works_in_another_process_by_its_name(tmp_path: Path) -> None:
    page = ROOT / "docs" / "trackers.md"
    (code,) = (b.code for b in blocks_of(page) if "class LinesTracker" in b.code)
    (entry,) = (b.code for b in blocks_of(page) if b.language == "toml")
    packages = tmp_path / "packages"
    info = packages / "my_package-1.0.dist-info"
    info.mkdir(parents=True)
    (packages / "my_package.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    points = entry.replace("project.entry-points.", "").replace('"', "")
    (info / "entry_points.txt").write_text(points)
    path = os.pathsep.join(map(str, (packages, ROOT / "src", ROOT)))
    environ = {name: v for name, v in os.environ.items() if name != "STEPBUS_REPORT_TO"}
    done = subprocess.run(
        [sys.executable, "-c", TRAINING],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DELIVERY process 0" in done.stdout, done.stdout + done.stderr
    lines = (tmp_path / "out" / "lines.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "3", "3"]
    assert "'train/loss': " in lines[0]
    assert "'train/train_runtime': " in lines[4]
