"""A script that fine-tunes a classifier gives the same with its imports changed as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.scripts_beside import Place, assert_same, last_line_of

pytestmark = pytest.mark.slow


def test_a_classification_script_gives_the_same_with_its_imports_changed(tmp_path: Path) -> None:
    reference = Place(tmp_path / "reference", "text_classification.py", migrated=False)
    stepbus = Place(tmp_path / "stepbus", "text_classification.py", migrated=True)

    printed = [last_line_of(place.run("out")) for place in (reference, stepbus)]

    assert_same(
        reference,
        stepbus,
        ["predict_results.txt", "config.json", "tokenizer.json", "tokenizer_config.json"],
    )
    assert printed[0] == printed[1]
    history = stepbus.json("trainer_state.json")
    assert history["global_step"] < history["max_steps"], "early stopping was to end it"
    assert history["best_model_checkpoint"] != f"out/checkpoint-{history['global_step']}"
