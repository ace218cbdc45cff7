"""What can be said needs pydantic and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import stepbus.schemas

PROGRAM = """
import json
import sys
import stepbus
before = set(sys.modules)
import stepbus.schemas
for name in stepbus.schemas.__all__:
    getattr(stepbus.schemas, name)
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
foreign = {r for r in roots - sys.stdlib_module_names if not r.startswith("_sysconfigdata")}
heavy = {"torch", "anyio", "numpy", "structlog"} & set(sys.modules)
print(json.dumps([sorted(foreign), sorted(heavy)]))
"""

ALLOWED = {
    "annotated_types",
    "pydantic",
    "pydantic_core",
    "stepbus",
    "typing_extensions",
    "typing_inspection",
}


def test_schemas_import_only_the_standard_library_and_pydantic() -> None:
    source = Path(stepbus.schemas.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(source), "PYDANTIC_DISABLE_PLUGINS": "__all__"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    foreign, heavy = json.loads(done.stdout)
    assert set(foreign) <= ALLOWED
    assert "pydantic" in foreign
    assert heavy == []


def test_the_public_names_exist_once_each() -> None:
    names = stepbus.schemas.__all__
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(stepbus.schemas, name)] == []
