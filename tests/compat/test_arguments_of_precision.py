"""Arguments about compiling and precision, through the whole Trainer beside the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stepbus import TrainingArguments
from stepbus.engine.trainer.precision import apply_tf32
from tests.compat.apart import PREPARATION_TIME
from tests.compat.pairs import make, of_both
from tests.differential.case import Case, Outcome, Session
from tests.differential.data import texts
from tests.differential.libraries import REFERENCE, STEPBUS, Library
from tests.differential.models import Regression, gpt2

Check = Callable[[Case], Outcome]

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2}
TEXT: dict[str, Any] = {"train": texts(12), "eval": texts(5, seed=1)}
COMPILED = [
    Case("eager", {"torch_compile": True, "torch_compile_backend": "eager", "max_steps": 3}),
    Case("a backend alone", {"torch_compile_backend": "eager", "max_steps": 3, **EVALUATED}),
    Case(
        "aot_eager",
        {"torch_compile_backend": "aot_eager", "max_steps": 3},
        lambda: Regression(0.0),
    ),
    Case(
        "eager, GPT-2",
        {"torch_compile_backend": "eager", "max_steps": 3, "save_strategy": "epoch"},
        gpt2,
        **TEXT,
    ),
]


def evaluate(session: Session) -> None:
    trainer = session.make()
    session.results["evaluate"] = trainer.evaluate()
    session.results["dtype"] = {str(p.dtype) for p in trainer.model.parameters()}


def train_and_evaluate(session: Session) -> None:
    session.make().train()
    evaluate(session)


PRECISION = [
    Case("bf16", {"bf16": True, **EVALUATED}),
    Case("fp16, which the CPU has not", {"fp16": True, **EVALUATED}),
    Case("tf32 False", {"tf32": False}),
    *(
        Case(
            f"{name}, {script.__name__}",
            {name: True, **EVALUATED},
            gpt2,
            script=script,
            except_for=(PREPARATION_TIME,),
            **TEXT,
        )
        for name in ("bf16_full_eval", "fp16_full_eval")
        for script in (evaluate, train_and_evaluate)
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.name)
def test_compiled(check: Check, case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", PRECISION, ids=lambda case: case.name)
def test_precision(check: Check, case: Case) -> None:
    check(case)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_mode_of_compiling_reaches_torch(tmp_path: Path, mode: str) -> None:
    def asked_for(library: Library) -> Any:
        args = make(library, tmp_path, torch_compile_mode=mode).args
        return args.torch_compile, args.torch_compile_backend, args.torch_compile_mode

    theirs, ours = of_both(asked_for)
    assert ours == theirs == (True, "inductor", mode)

    told: list[Any] = []

    def noting(graph: Any, inputs: Any, mode: Any = "default") -> Any:
        told.append(mode)
        return graph.forward

    torch._dynamo.register_backend(noting, name=f"noting_{mode}")
    arguments = {"torch_compile_backend": f"noting_{mode}", "torch_compile_mode": mode}
    make(STEPBUS, tmp_path, max_steps=1, **arguments).train()
    assert set(told) == {mode}


@pytest.fixture
def tf32_as_before() -> Iterator[None]:
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    yield
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value  # type: ignore[attr-defined]


@pytest.mark.usefixtures("tf32_as_before")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, False),
        ({"tf32": True}, True),
        ({"torch_compile": True}, True),
        ({"torch_compile": True, "tf32": False}, False),
        ({"torch_compile": True, "fp16": True}, False),
    ],
)
def test_tf32_is_on_where_the_reference_has_it_on(
    arguments: dict[str, Any], expected: bool
) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    apply_tf32(TrainingArguments("out", **arguments), torch.device("cuda"))
    assert torch.backends.cuda.matmul.allow_tf32 is expected


def test_tf32_without_a_gpu_is_refused_in_both(tmp_path: Path) -> None:
    for library in (REFERENCE, STEPBUS):
        with pytest.raises(ValueError, match="tf32"):
            make(library, tmp_path, tf32=True)
