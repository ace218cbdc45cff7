"""What can be said needs pydantic and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import stepbus.schemas

PROGRAM = """
import sys
import stepbus
before = set(sys.modules)
import stepbus.schemas
for name in stepbus.schemas.__all__:
    getattr(stepbus.schemas, name)
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(roots - set(sys.stdlib_module_names)))
print([name for name in ("torch", "anyio", "numpy", "structlog") if name in sys.modules])
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
    roots, forbidden = done.stdout.splitlines()
    assert set(eval(roots)) <= ALLOWED, roots
    assert "'pydantic'" in roots
    assert forbidden == "[]"


def test_the_public_names_are_sorted_and_real() -> None:
    names = stepbus.schemas.__all__
    assert len(set(names)) == len(names)
    assert {name.isupper() for name in names[:1]} == {True}
    assert all(hasattr(stepbus.schemas, name) for name in names)
