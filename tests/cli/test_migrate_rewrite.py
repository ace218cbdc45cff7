"""`stepbus migrate --write`: only imports change, and what is left compiles."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import stepbus as package
from stepbus.cli.migrate.moved_names import MOVES
from stepbus.cli.migrate.notebooks import with_cells, without_magics

from .migrated import CLASSIFICATION, LANGUAGE_MODEL, REFUSED, WEIGHTED_LOSS, rewritten

Stepbus = Callable[..., subprocess.CompletedProcess[str]]


def taken_from(text: str, package: str) -> set[str]:
    """The names that a script imports from a package, or reads as its attributes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} if node.value.id == package else set()
    return found


@pytest.mark.parametrize("script", [CLASSIFICATION, LANGUAGE_MODEL, WEIGHTED_LOSS, REFUSED])
def test_nothing_of_the_trainers_side_is_taken_from_transformers_any_more(
    script: str, tmp_path: Path
) -> None:
    new = rewritten(script, tmp_path)
    before, after = taken_from(script, "transformers"), taken_from(new, "transformers")
    assert after == before - MOVES
    assert taken_from(new, "stepbus") == before & MOVES
    assert rewritten(new, tmp_path) == new


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from transformers import Trainer\n", "from stepbus import Trainer\n"),
        (
            "from transformers import Trainer as T, set_seed  # noqa\n",
            "from stepbus import Trainer as T, set_seed  # noqa\n",
        ),
        (
            "from transformers.trainer_callback import TrainerCallback",
            "from stepbus import TrainerCallback",
        ),
        ("from transformers import AutoModel\n", "from transformers import AutoModel\n"),
        (
            "from transformers import AutoModel, Trainer  # both\n",
            "from stepbus import Trainer\nfrom transformers import AutoModel  # both\n",
        ),
        (
            "from transformers import (AutoModel, Trainer)\n",
            "from stepbus import Trainer\nfrom transformers import (AutoModel)\n",
        ),
        (
            "from transformers import AutoModel, \\\n    Trainer\n",
            "from stepbus import Trainer\nfrom transformers import AutoModel\n",
        ),
        (
            "from transformers \\\n    import Trainer\n",
            "from stepbus \\\n    import Trainer\n",
        ),
        (
            "from transformers import (\n    AutoModel,  # a\n    Trainer,  # b\n    pipeline\n)\n",
            (
                "from stepbus import (\n    Trainer,  # b\n)\n"
                "from transformers import (\n    AutoModel,  # a\n    pipeline\n)\n"
            ),
        ),
        (
            "from transformers import (\n    Trainer, set_seed,  # c\n    AutoModel)\n",
            (
                "from stepbus import (\n    Trainer,\n    set_seed,  # c\n)\n"
                "from transformers import (\n    AutoModel)\n"
            ),
        ),
        (
            "from transformers import (AutoModel, pipeline,\n                          Trainer)\n",
            "from stepbus import Trainer\nfrom transformers import (AutoModel, pipeline)\n",
        ),
        (
            "from transformers import (Trainer,\n    # kept\n    AutoModel)\n",
            "from stepbus import Trainer\nfrom transformers import (\n    # kept\n    AutoModel)\n",
        ),
        (
            "try:\n\tfrom transformers import AutoModel, Trainer\nexcept ImportError:\n\tpass\n",
            (
                "try:\n\tfrom stepbus import Trainer\n\tfrom transformers import AutoModel\n"
                "except ImportError:\n\tpass\n"
            ),
        ),
        (
            "import os; from transformers import AutoModel, Trainer; x = 1\n",
            "import os; from transformers import AutoModel; from stepbus import Trainer; x = 1\n",
        ),
        (
            "if 1: from transformers import AutoModel, Trainer\n",
            "if 1: from transformers import AutoModel; from stepbus import Trainer\n",
        ),
        (
            "import os\r\nfrom transformers import AutoModel, Trainer\r\nx = 'é'\r\n",
            (
                "import os\r\nfrom stepbus import Trainer\r\nfrom transformers import AutoModel\r\n"
                "x = 'é'\r\n"
            ),
        ),
        (
            "import transformers\nt = transformers.Trainer()\n",
            "import stepbus\nt = stepbus.Trainer()\n",
        ),
        (
            "import transformers\nt = transformers.Trainer(transformers.AutoModel())\n",
            "import stepbus\nimport transformers\nt = stepbus.Trainer(transformers.AutoModel())\n",
        ),
        (
            "import os, transformers as hf\né = hf.trainer_utils.set_seed(1), hf.Trainer\n",
            (
                "import stepbus\nimport os, transformers as hf\n"
                "é = stepbus.set_seed(1), stepbus.Trainer\n"
            ),
        ),
        (
            "from transformers import trainer_callback as tc\nclass A(tc.TrainerCallback): pass\n",
            (
                "import stepbus\nfrom transformers import trainer_callback as tc\n"
                "class A(stepbus.TrainerCallback): pass\n"
            ),
        ),
        (
            "import stepbus\nimport transformers\ntransformers.set_seed(1)\ntransformers.x\n",
            "import stepbus\nimport transformers\nstepbus.set_seed(1)\ntransformers.x\n",
        ),
        (
            "from transformers import *\nTrainer(AutoModel())\nset_seed(1)\n",
            (
                "from transformers import *\nfrom stepbus import Trainer, set_seed\n"
                "Trainer(AutoModel())\nset_seed(1)\n"
            ),
        ),
        (
            "def f():\n    import transformers; return transformers.Trainer\n",
            "def f():\n    import stepbus; return stepbus.Trainer\n",
        ),
        (
            "text = 'from transformers import Trainer'\n# from transformers import Trainer\n",
            "text = 'from transformers import Trainer'\n# from transformers import Trainer\n",
        ),
        (
            "from transformers import Seq2SeqTrainer, TrainerCallback\n",
            "from transformers import Seq2SeqTrainer, TrainerCallback\n",
        ),
    ],
)
def test_statements_keep_their_layout(before: str, after: str, tmp_path: Path) -> None:
    assert rewritten(before, tmp_path) == after
    compile(after, "after", "exec")


def test_long_imports_get_a_line_for_each_name(tmp_path: Path) -> None:
    names = "DefaultFlowCallback, EarlyStoppingCallback, PrinterCallback, ProgressCallback"
    new = rewritten(f"from transformers import AutoModel, {names}\n", tmp_path)
    assert new.startswith("from stepbus import (\n    DefaultFlowCallback,\n")
    assert max(map(len, new.splitlines())) < 88


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8-sig", "utf-8"])
def test_the_encoding_and_the_mode_of_a_file_stay(
    encoding: str, tmp_path: Path, stepbus: Stepbus
) -> None:
    first = "" if encoding == "utf-8-sig" else f"# -*- coding: {encoding} -*-\n"
    text = f"{first}from transformers import AutoModel, Trainer\nx = 'é'\n"
    path = tmp_path / "train.py"
    path.write_bytes(text.encode(encoding))
    path.chmod(0o755)
    assert stepbus("migrate", "train.py", "--write").returncode == 0
    new = text.replace("from t", "from stepbus import Trainer\nfrom t").replace(", Trainer", "")
    assert path.read_bytes() == new.encode(encoding)
    assert path.stat().st_mode & 0o777 == 0o755


def test_the_diff_can_be_applied_and_writes_nothing(tmp_path: Path, stepbus: Stepbus) -> None:
    path = tmp_path / "train.py"
    path.write_text(CLASSIFICATION)
    shown = stepbus("migrate", "train.py")
    assert shown.returncode == 0, shown.stderr
    assert path.read_text() == CLASSIFICATION
    lines = shown.stdout.splitlines()
    assert lines[:2] == ["--- train.py", "+++ train.py"]
    added = [line for line in lines if line.startswith("+") and not line.startswith("+++")]
    assert added == [
        "+from stepbus import (",
        "+    EarlyStoppingCallback,  # stops when nothing improves",
        "+    Trainer,",
        "+    TrainingArguments,",
        "+)",
    ]
    assert stepbus("migrate", "train.py", "--write").returncode == 0
    new = path.read_text().splitlines()
    assert all(line[1:] in new for line in added)


def test_a_notebook_changes_in_its_imports_alone(tmp_path: Path, stepbus: Stepbus) -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["from transformers import Trainer"]},
        {
            "cell_type": "code",
            "execution_count": 1,
            "metadata": {"é": 1},
            "outputs": [],
            "source": ["!pip install transformers \\\n", "  datasets\n", "%matplotlib inline\n"],
        },
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}],
            "source": [
                "%%time\n",
                "from transformers import AutoModel, Trainer\n",
                "files = !ls\n",
                "Trainer?",
            ],
        },
        {"cell_type": "code", "metadata": {}, "outputs": [], "source": "%%bash\necho 'it's"},
        {
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "source": ["await Trainer().train()\n", "!torchrun train.py"],
        },
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path = tmp_path / "train.ipynb"
    before = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    path.write_text(before, encoding="utf-8")

    checked = stepbus("migrate", "train.ipynb", "--check")
    assert checked.returncode == 1
    assert "cell 4, line 2" in checked.stdout
    assert "torchrun" in checked.stdout
    assert "(cell 2)" in stepbus("migrate", "train.ipynb").stdout

    assert stepbus("migrate", "train.ipynb", "--write").returncode == 1
    old_line = '"from transformers import AutoModel, Trainer\\n",\n'
    indent = "    "
    assert path.read_text(encoding="utf-8") == before.replace(
        old_line,
        f'"from stepbus import Trainer\\n",\n{indent}"from transformers import AutoModel\\n",\n',
    )


def test_magics_become_lines_that_do_nothing() -> None:
    code, magics = without_magics("if 1:\n    %pip install x\n    y = %env HOME\nz?\n1")
    compile(code, "cell", "exec")
    assert code.splitlines() == ["if 1:", "    pass", "    y = None", "pass", "1"]
    assert [line for line, _ in magics] == [2, 3, 4]


def test_a_text_that_looks_like_a_magic_stays(tmp_path: Path, stepbus: Stepbus) -> None:
    source = 'x = """\n%d of\n!important\n"""\nfrom transformers import Trainer'
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": source}
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": [cell], "nbformat": 4}))
    assert stepbus("migrate", "n.ipynb", "--write").returncode == 0
    new = json.loads(path.read_text())["cells"][0]["source"]
    assert new == source.replace("transformers", "stepbus")


@pytest.mark.parametrize("indent", [None, 1, 2, 4])
def test_a_notebook_keeps_its_way_of_being_written(indent: int | None) -> None:
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": ["a = 1\n", "b"]}
    text = json.dumps({"cells": [cell, cell], "nbformat": 4}, indent=indent)
    assert with_cells(text, "n", {}) == text
    assert with_cells(text, "n", {0: "a = 2\nb"}) == text.replace("a = 1", "a = 2", 1)


def test_every_name_that_moves_is_one_of_stepbus() -> None:
    assert MOVES - set(package.__all__) == set()
