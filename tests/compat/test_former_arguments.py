"""Arguments of version 4: each does what its successor does in the reference, with one warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepbus.schemas.argument_names import FORMER
from tests.compat.apart import FORMER_NAME
from tests.differential.case import QUIET, Case, run
from tests.differential.comparing import differences
from tests.differential.data import texts
from tests.differential.libraries import REFERENCE, STEPBUS
from tests.differential.models import Regression, gpt2

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4}
FORMERLY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "evaluation_strategy": ({"evaluation_strategy": "epoch"}, {"eval_strategy": "epoch"}),
    "no_cuda": ({"no_cuda": True}, {"use_cpu": True}),
    "use_mps_device": ({"use_mps_device": False}, {}),
    "warmup_ratio": ({"warmup_ratio": 0.3}, {"warmup_steps": 0.3}),
    "group_by_length": (
        {"group_by_length": True},
        {"train_sampling_strategy": "group_by_length"},
    ),
    "logging_dir": ({"logging_dir": "somewhere"}, {}),
    "overwrite_output_dir": ({"overwrite_output_dir": True, "save_strategy": "epoch"}, {}),
    "include_inputs_for_metrics": (
        {"include_inputs_for_metrics": True, **EVALUATED},
        {"include_for_metrics": ["inputs"]},
    ),
    "include_tokens_per_second": (
        {"include_tokens_per_second": True},
        {"include_num_input_tokens_seen": "all"},
    ),
    "save_safetensors": ({"save_safetensors": True, "save_strategy": "epoch"}, {}),
    "per_gpu_train_batch_size": (
        {"per_gpu_train_batch_size": 3},
        {"per_device_train_batch_size": 3},
    ),
    "per_gpu_eval_batch_size": (
        {"per_gpu_eval_batch_size": 3, **EVALUATED},
        {"per_device_eval_batch_size": 3},
    ),
    "half_precision_backend": ({"half_precision_backend": "auto"}, {}),
    "fp16_backend": ({"fp16_backend": "auto"}, {}),
    "torchdynamo": (
        {"torchdynamo": "eager", "max_steps": 2},
        {"torch_compile_backend": "eager"},
    ),
    "push_to_hub_model_id": ({"push_to_hub_model_id": "one"}, {"hub_model_id": "one"}),
    "push_to_hub_organization": (
        {"push_to_hub_organization": "they", "hub_model_id": "one"},
        {"hub_model_id": "they/one"},
    ),
    "push_to_hub_token": ({"push_to_hub_token": "secret"}, {"hub_token": "secret"}),
}
"""A former name with other arguments, and what replaces it in the reference."""
OF_TEXTS = {"group_by_length", "include_tokens_per_second", "include_inputs_for_metrics"}


def given_inputs(prediction: Any) -> dict[str, Any]:
    return {"inputs": prediction.inputs is not None}


@pytest.mark.parametrize("name", sorted(FORMER))
def test_a_former_name_does_what_its_successor_does_in_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    former, instead = FORMERLY[name]
    for successor in instead:
        monkeypatch.delitem(QUIET, successor, raising=False)
    of_texts = name in OF_TEXTS
    more: dict[str, Any] = {
        "model": gpt2 if of_texts else Regression,
        "trainer": lambda library: {"compute_metrics": given_inputs},
        **({"train": texts(8), "eval": texts(4)} if of_texts else {}),
    }
    rest = {key: value for key, value in former.items() if key != name}
    theirs = run(Case(name, rest | instead, **more), REFERENCE, tmp_path / "theirs")
    ours = run(Case(name, former, **more), STEPBUS, tmp_path / "ours")
    assert not theirs.error
    assert differences(theirs, ours, (FORMER_NAME,)) == []
    text = f"FutureWarning: {name} is an argument of transformers 4. It has become {FORMER[name]}."
    assert [said for said in ours.warnings if "transformers 4" in said] == [text]
