"""The live state, its snapshots, and trainer_state.json."""

import copy
import dataclasses
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.schemas import CheckpointError, TrainerState
from stepbus.schemas.history import HistoryView

FILE = """{
  "best_global_step": null,
  "best_metric": NaN,
  "best_model_checkpoint": null,
  "epoch": 0.5,
  "eval_steps": 500,
  "global_step": 3,
  "is_hyper_param_search": false,
  "is_local_process_zero": true,
  "is_world_process_zero": true,
  "log_history": [
    {
      "loss": Infinity,
      "step": 3
    }
  ],
  "logging_steps": 500,
  "max_steps": 6,
  "num_input_tokens_seen": 0,
  "num_train_epochs": 1,
  "save_steps": 500,
  "stateful_callbacks": {
    "EarlyStoppingCallback": {
      "args": {
        "early_stopping_patience": 2
      },
      "attributes": {
        "counter": 1
      }
    }
  },
  "total_flos": 0.0,
  "train_batch_size": null,
  "trial_name": "\\u00e9t\\u00e9",
  "trial_params": null
}
"""


def example() -> TrainerState:
    return TrainerState(
        epoch=0.5,
        global_step=3,
        max_steps=6,
        num_train_epochs=1,
        best_metric=math.nan,
        trial_name="\u00e9t\u00e9",
        log_history=[{"step": 3, "loss": math.inf}],
        stateful_callbacks={
            "EarlyStoppingCallback": {
                "args": {"early_stopping_patience": 2},
                "attributes": {"counter": 1},
            }
        },
    )


def test_the_fields_and_defaults_are_those_of_the_reference() -> None:
    assert dataclasses.asdict(TrainerState()) == {
        "epoch": 0.0,
        "global_step": 0,
        "max_steps": 0,
        "logging_steps": 500,
        "eval_steps": 500,
        "save_steps": 500,
        "train_batch_size": None,
        "num_train_epochs": 0,
        "num_input_tokens_seen": 0,
        "total_flos": 0.0,
        "log_history": [],
        "best_metric": None,
        "best_global_step": None,
        "best_model_checkpoint": None,
        "is_local_process_zero": True,
        "is_world_process_zero": True,
        "is_hyper_param_search": False,
        "trial_name": None,
        "trial_params": None,
        "stateful_callbacks": {},
    }


def test_the_file_is_spelled_as_the_reference_spells_it(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    example().save_to_json(path)
    assert path.read_text(encoding="utf-8") == FILE


def test_the_file_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    example().save_to_json(str(path))
    state = TrainerState.load_from_json(str(path))
    assert type(state) is TrainerState
    assert state.to_json() == FILE
    state.global_step = 4
    assert state.snapshot().global_step == 4


@given(
    st.lists(
        st.dictionaries(st.text(), st.floats() | st.integers() | st.text() | st.booleans()),
        max_size=4,
    )
)
def test_any_history_round_trips(rows: list[dict[str, Any]]) -> None:
    text = TrainerState(log_history=rows).to_json()
    assert TrainerState.from_json(text).to_json() == text


def test_a_snapshot_writes_the_same_file() -> None:
    assert example().snapshot().to_json() == FILE


def test_fields_of_a_newer_version_are_ignored() -> None:
    values = {**json.loads(FILE), "invented_later": [1]}
    assert TrainerState.from_json(json.dumps(values)).to_json() == FILE


@pytest.mark.parametrize("text", ["", "[]", "3", '{"global_step": "x"}', '{"log_history": 3}', "{"])
def test_a_file_that_is_no_state_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"{path} is not a trainer state"):
        TrainerState.load_from_json(path)


def test_an_undecodable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=f"{path} is not a trainer state"):
        TrainerState.load_from_json(path)


def test_later_steps_never_change_a_snapshot() -> None:
    live = TrainerState(global_step=1, epoch=0.1)
    live.log_history.append({"loss": 3.0})
    before = live.snapshot()
    live.global_step = 2
    live.epoch = 0.2
    live.best_metric = 0.5
    live.log_history.append({"loss": 2.0})
    live.stateful_callbacks["A"] = {"counter": [1]}
    assert before.global_step == 1
    assert before.epoch == 0.1
    assert before.best_metric is None
    assert list(before.log_history) == [{"loss": 3.0}]
    assert before.stateful_callbacks == {}


def test_a_snapshot_shares_nothing_that_can_change_with_the_live_state() -> None:
    live = TrainerState(trial_params={"lr": [1]}, stateful_callbacks={"A": {"counter": 1}})
    before = live.snapshot()
    live.stateful_callbacks["A"]["counter"] = 2
    assert live.trial_params is not None
    live.trial_params["lr"].append(2)
    assert before.stateful_callbacks == {"A": {"counter": 1}}
    assert before.trial_params == {"lr": (1,)}
    with pytest.raises(TypeError, match="make a copy first"):
        before.stateful_callbacks["A"]["counter"] = 3


def test_a_history_that_was_replaced_leaves_older_snapshots_alone() -> None:
    live = TrainerState()
    live.log_history.append({"loss": 3.0})
    before = live.snapshot()
    live.log_history = [{"loss": 1.0}, {"loss": 0.5}]
    assert list(before.log_history) == [{"loss": 3.0}]
    assert len(live.snapshot().log_history) == 2


@pytest.mark.parametrize("name", ["global_step", "log_history", "invented"])
def test_a_snapshot_refuses_to_change_and_names_what_to_do(name: str) -> None:
    snapshot = example().snapshot()
    with pytest.raises(AttributeError, match=f"'{name}' was not set.*return a Vote"):
        setattr(snapshot, name, 5)
    with pytest.raises(AttributeError, match="cannot be changed"):
        del snapshot.global_step
    assert snapshot.to_json() == FILE


def test_a_history_in_a_snapshot_reads_like_a_list_and_cannot_grow() -> None:
    live = TrainerState(log_history=[{"step": step} for step in range(5)])
    history = live.snapshot().log_history
    live.log_history.append({"step": 5})
    rows = [{"step": step} for step in range(5)]
    assert len(history) == 5
    assert history[0] == {"step": 0}
    assert history[-1] == {"step": 4}
    assert history[1:3] == rows[1:3]
    assert history[-2:] == rows[-2:]
    assert history[::-1] == rows[::-1]
    assert list(reversed(history)) == rows[::-1]
    assert history == rows
    assert {"step": 5} not in history
    assert repr(history) == repr(rows)
    for index in (5, -6):
        with pytest.raises(IndexError, match="history of 5 rows"):
            history[index]
    with pytest.raises(TypeError, match="make a copy first"):
        history[0]["step"] = 9
    assert not hasattr(history, "append")


def test_snapshots_share_one_frozen_rest_until_something_else_is_assigned() -> None:
    live = TrainerState()
    rest = live.rest()
    for step in range(1, 1000):
        live.global_step = step
        live.epoch = step / 1000
        live.log_history.append({"step": step})
        assert live.rest() is rest
    live.best_metric = 0.5
    assert live.rest() is not rest
    assert rest.values["best_metric"] is None


def test_what_events_keep_is_the_same_object_until_the_history_may_have_grown() -> None:
    live = TrainerState()
    mark = live.mark()
    live.advance(0.5)
    assert live.mark() is mark
    live.add_log({"step": 1})
    assert live.mark() == (mark[0], 1)
    assert live.mark() is live.mark()
    # As callbacks do it, which know nothing of add_log.
    live.log_history.append({"step": 2})
    assert live.mark() == (mark[0], 2)
    live.log_history = [{"step": 3}]
    assert live.mark()[1] == 1
    assert live.mark()[0].history == [{"step": 3}]
    live.best_metric = 0.5
    assert live.mark()[0].values["best_metric"] == 0.5
    assert live.new_mark() == live.mark()


def test_a_snapshot_holds_no_copy_of_the_history() -> None:
    live = TrainerState(log_history=[{"step": step} for step in range(10_000)])
    history = live.snapshot().log_history
    assert isinstance(history, HistoryView)
    assert history._rows is live.log_history
    assert live.rest().history is live.log_history


def test_a_snapshot_equals_the_state_it_was_taken_of() -> None:
    live = TrainerState(global_step=3, log_history=[{"step": 3}])
    snapshot = live.snapshot()
    assert snapshot == live
    assert live == snapshot
    live.global_step = 4
    assert snapshot != live


def test_states_and_snapshots_can_be_copied_and_pickled() -> None:
    live = TrainerState(global_step=3, log_history=[{"step": 3}])
    snapshot = live.snapshot()
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert copy.deepcopy(snapshot) == snapshot
    twin = copy.deepcopy(live)
    twin.log_history.append({"step": 4})
    twin.global_step = 4
    assert live.snapshot() == snapshot
    assert list(twin.snapshot().log_history) == [{"step": 3}, {"step": 4}]
