"""The bus behind transformers' own Trainer: the same training, and every event in its order."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from stepbus import (
    BatchSizeRetry,
    DeliveryError,
    Event,
    EventBus,
    JSONLHistory,
    RunFailed,
    StepbusError,
    StepEnd,
    Subscriber,
    TensorBoardCallback,
    TrainBegin,
    TrainEnd,
    TransformersBridge,
)
from tests.engine.bridges.their_trainer import (
    Recording,
    arguments,
    make_trainer,
    samples,
    tiny_gpt2,
)

TIMES = ("runtime", "per_second")


def record(bus: EventBus) -> list[Event]:
    events: list[Event] = []
    bus.subscribe("*")(events.append)
    return events


def in_order(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.name, event.step) for event in events if event.name != "verdict"]


def history(trainer: transformers.Trainer) -> list[dict[str, Any]]:
    rows = trainer.state.log_history
    return [{k: v for k, v in row.items() if not k.endswith(TIMES)} for row in rows]


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


@pytest.mark.parametrize("accumulation", [1, 4])
def test_every_event_of_theirs_arrives_in_its_order(tmp_path: Path, accumulation: int) -> None:
    bus = EventBus()
    events = record(bus)
    theirs = Recording()
    trainer = make_trainer(
        tmp_path,
        theirs,
        TransformersBridge(bus),
        gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=1,
        per_device_eval_batch_size=2,
        logging_steps=2,
        logging_first_step=True,
        eval_strategy="steps",
        eval_steps=2,
        eval_on_start=True,
        save_strategy="epoch",
    )
    trainer.train()
    trained = len(events)
    assert in_order(events) == theirs.seen
    assert {"substep_end", "save", "evaluate"} - {"substep_end"} <= set(names(events))
    assert ("substep_end" in names(events)) == (accumulation == 4)

    theirs.seen.clear()
    trainer.predict(samples(4))
    trainer.evaluate()
    assert [pair for pair in in_order(events[trained:]) if pair[0] != "init_end"] == theirs.seen
    assert [event.seq for event in events] == list(range(len(events)))
    assert len({event.run_id for event in events}) == 1


def test_losses_history_and_weights_are_bit_equal_with_trackers_on_the_bus(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path / "plain", eval_strategy="epoch")
    plain.train()
    bus = EventBus()
    bus.subscribe(TensorBoardCallback())
    path = tmp_path / "log.jsonl"
    bus.subscribe(JSONLHistory, delivery="process", arguments={"path": str(path)})
    bus.subscribe("log", delivery="gate")(lambda event: torch.rand(3).tolist() and None)
    bridged = make_trainer(tmp_path / "bridged", TransformersBridge(bus), eval_strategy="epoch")
    bridged.train()
    assert history(bridged) == history(plain)
    assert plain.model is not None
    assert bridged.model is not None
    trained = bridged.model.state_dict()
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(weight, trained[name]), name
    written = list((tmp_path / "bridged" / "runs").rglob("events.out.tfevents.*"))
    assert len(written) == 1
    assert path.stat().st_size > 0


def test_trackers_get_the_keys_of_their_logs_and_events_the_state_of_theirs(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    trainer = make_trainer(tmp_path, TransformersBridge(bus), eval_strategy="epoch")
    trainer.train()
    logs = [event for event in events if event.name == "log"]
    rows = [{k: v for k, v in row.items() if k != "step"} for row in trainer.state.log_history]
    assert [dict(event.logs) for event in logs] == rows  # type: ignore[attr-defined]
    last = logs[-1].state
    assert list(last.log_history) == trainer.state.log_history
    assert len(logs[2].state.log_history) == 3
    for name in ("max_steps", "total_flos", "num_train_epochs", "best_metric", "global_step"):
        assert getattr(last, name) == getattr(trainer.state, name), name


def test_train_begin_carries_their_arguments_with_secrets_masked(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    make_trainer(tmp_path, TransformersBridge(bus), hub_token="hf_secret", run_name="r").train()
    begin = next(event for event in events if isinstance(event, TrainBegin))
    assert begin.arguments["hub_token"] == "<HUB_TOKEN>"
    assert begin.arguments["learning_rate"] == 5e-05
    assert (begin.run_name, begin.model, begin.max_steps) == ("r", "GPT2LMHeadModel", 6)
    assert (begin.num_train_epochs, begin.steps_per_epoch) == (2.0, 3)
    assert begin.num_parameters == sum(p.numel() for p in tiny_gpt2().parameters())
    assert begin.output_dir == str(tmp_path)


def test_steps_carry_their_times_and_the_rate_that_they_used(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    trainer = make_trainer(tmp_path, TransformersBridge(bus))
    trainer.train()
    steps = [event for event in events if isinstance(event, StepEnd)]
    rates = [row["learning_rate"] for row in trainer.state.log_history if "loss" in row]
    assert [step.learning_rate for step in steps] == rates
    assert all(step.step_s > step.data_wait_s > 0 for step in steps)
    assert all(step.bus_s > 0 for step in steps[1:])


def test_a_bridge_given_as_a_class_makes_its_own_bus(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, TransformersBridge)
    bridge = next(
        c for c in trainer.callback_handler.callbacks if isinstance(c, TransformersBridge)
    )
    events = record(bridge.bus)
    trainer.train()
    assert names(events)[-1] == "train_end"
    assert not bridge.bus.running
    assert bridge.summary is not None
    assert bridge.summary.status == "finished"


def test_two_trainers_after_each_other_on_one_bus_are_two_runs(tmp_path: Path) -> None:
    with EventBus() as bus:
        events = record(bus)
        for name in ("one", "two"):
            make_trainer(tmp_path / name, TransformersBridge(bus)).train()
            bus.flush(20)
    ends = [event for event in events if isinstance(event, TrainEnd)]
    assert len({event.run_id for event in ends}) == len(ends) == 2


def test_one_trainer_trains_again_as_a_new_run_and_its_evaluations_belong_to_them(
    tmp_path: Path,
) -> None:
    bus = EventBus()
    events = record(bus)
    trainer = make_trainer(tmp_path, TransformersBridge(bus))
    trainer.evaluate()
    trainer.train()
    first = {event.run_id for event in events}
    trainer.train()
    second = {event.run_id for event in events} - first
    assert (len(first), len(second)) == (1, 1)
    assert names(events).count("train_end") == 2


def test_a_resumed_training_is_the_next_attempt_of_the_run(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    changes: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3}
    make_trainer(tmp_path, TransformersBridge(bus), **changes).train()
    first = events[-1].run_id
    events.clear()
    trainer = make_trainer(tmp_path, TransformersBridge(bus), **changes)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    begin = next(event for event in events if isinstance(event, TrainBegin))
    assert (begin.run_id, begin.attempt) == (first, 2)
    assert begin.resumed_from == str(tmp_path / "checkpoint-3")
    assert len(begin.state.log_history) == 3


def test_a_failure_ends_the_run_as_failed_and_stops_the_bus(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    bridge = TransformersBridge(bus)

    class Breaks(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                raise ZeroDivisionError("no more")

    trainer = make_trainer(tmp_path, bridge, Breaks())
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    failed = events[-1]
    assert isinstance(failed, RunFailed)
    assert (failed.error, failed.message, failed.step) == ("ZeroDivisionError", "no more", 2)
    assert "on_step_end" in failed.traceback
    assert not bus.running
    assert bridge.summary is not None
    assert bridge.summary.status == "failed"
    trainer.remove_callback(Breaks)
    trainer.train()
    assert names(events)[-1] == "train_end"


def test_control_c_ends_the_run_as_failed_and_goes_on_to_the_caller(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)

    class Interrupts(transformers.TrainerCallback):
        def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

    bridge = TransformersBridge(bus)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, bridge, Interrupts(), gradient_accumulation_steps=2).train()
    assert isinstance(events[-1], RunFailed)
    assert events[-1].error == "KeyboardInterrupt"
    assert not bus.running


def test_a_bridge_that_was_added_later_sees_the_end_and_the_next_failure(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    trainer = make_trainer(tmp_path, eval_strategy="epoch")
    trainer.add_callback(TransformersBridge(bus))
    trainer.train()
    assert names(events).count("train_end") == names(events).count("train_begin") == 1
    assert names(events).count("evaluate") == 2
    assert not bus.running


def test_a_retry_with_a_smaller_batch_goes_on_in_the_same_run(tmp_path: Path) -> None:
    class Full(transformers.Trainer):
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            if len(inputs["input_ids"]) > 2:
                raise RuntimeError("CUDA out of memory.")
            return super().training_step(model, inputs, num_items_in_batch)

    bus = EventBus()
    events = record(bus)
    args = arguments(tmp_path, auto_find_batch_size=True)
    bridge = TransformersBridge(bus)
    Full(tiny_gpt2(), args, train_dataset=samples(12), callbacks=[bridge]).train()
    begun = [event for event in events if event.name in ("train_begin", "batch_size_retry")]
    assert names(begun)[:3] == ["train_begin", "batch_size_retry", "train_begin"]
    retries = [event for event in events if isinstance(event, BatchSizeRetry)]
    assert retries[0].from_batch_size == 4
    assert retries[-1].to_batch_size <= 2
    assert names(events)[-1] == "train_end"
    assert len({event.run_id for event in events}) == 1


def test_two_buses_behind_one_trainer_both_get_everything(tmp_path: Path) -> None:
    buses = [EventBus(), EventBus()]
    events = [record(bus) for bus in buses]
    bridges = [TransformersBridge(bus) for bus in buses]
    make_trainer(tmp_path, *bridges).train()
    assert in_order(events[0]) == in_order(events[1])
    assert names(events[0])[-1] == "train_end"
    assert not any(bus.running for bus in buses)


def test_a_with_block_keeps_one_bus_running_over_several_calls(tmp_path: Path) -> None:
    bridge = TransformersBridge()
    events = record(bridge.bus)
    with bridge:
        trainer = make_trainer(tmp_path, bridge)
        trainer.train()
        assert bridge.bus.running
        trainer.evaluate()
    assert not bridge.bus.running
    assert names(events)[-1] == "evaluate"
    bridge.close()
    assert bridge.bus.closed


def test_evaluating_several_sets_is_one_session(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    trainer = make_trainer(tmp_path, TransformersBridge(bus))
    trainer.evaluate({"one": samples(4), "two": samples(4)})
    kinds = ["prediction_step", "log", "evaluate"]
    assert names(events) == ["init_end", *kinds, *kinds]


def test_a_failed_evaluation_ends_its_session_as_failed(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    trainer = make_trainer(tmp_path, TransformersBridge(bus))
    trainer.compute_metrics = lambda prediction: {"accuracy": 1 // 0}
    with pytest.raises(ZeroDivisionError):
        trainer.evaluate()
    assert isinstance(events[-1], RunFailed)
    assert not bus.running


def test_a_required_subscriber_that_cannot_be_set_up_ends_it_before_the_first_step(
    tmp_path: Path,
) -> None:
    class Broken(Subscriber):
        def open(self) -> None:
            raise OSError("no such server")

        def on_step_end(self, event: StepEnd) -> None:
            pass

    bus = EventBus()
    bus.subscribe(Broken(), required=True)
    trainer = make_trainer(tmp_path, TransformersBridge(bus))
    with pytest.raises(DeliveryError, match="no such server"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not bus.running


def test_a_trainer_that_is_dropped_is_freed_at_once(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, TransformersBridge())
    trainer.train()
    plain = make_trainer(tmp_path)
    plain.train()
    assert type(trainer).__name__ == "Trainer"
    assert isinstance(trainer, transformers.Trainer)
    gone = [weakref.ref(trainer), weakref.ref(plain)]
    del trainer, plain
    # The bridge adds no cycle to what there is of them.
    assert (gone[0]() is None) == (gone[1]() is None)


def test_one_line_suggests_to_log_to_a_tracker_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = EventBus()
    bus.subscribe(TensorBoardCallback())
    make_trainer(tmp_path, TransformersBridge(bus), report_to=["tensorboard"]).train()
    said = capsys.readouterr().err + caplog.text
    assert said.count("give the TrainingArguments report_to='none'") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_in_a_forked_child_training_is_one_error_that_says_what_to_do(tmp_path: Path) -> None:
    bus = EventBus()
    trainer = make_trainer(tmp_path, TransformersBridge(bus))
    child = os.fork()
    if not child:
        try:
            trainer.train()
        except StepbusError as error:
            os._exit(7 if "fork" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    trainer.train()


PROGRAM = """
import sys
from pathlib import Path
from stepbus import EventBus, TransformersBridge
from stepbus.subscribers import JSONLHistory
from tests.engine.bridges.their_trainer import make_trainer
import transformers

class Breaks(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        raise ZeroDivisionError("no more")

bus = EventBus()

@bus.subscribe("run_failed")
def say(event):
    print("failed:", event.message, flush=True)

trainer = make_trainer(Path(sys.argv[1]))
trainer.add_callback(TransformersBridge(bus))
trainer.add_callback(Breaks)
trainer.train()
"""


@pytest.mark.slow
def test_a_failure_of_a_training_nobody_watches_is_said_when_the_program_ends(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 1, done.stderr
    assert "failed: no more" in done.stdout, f"{done.stdout}\n{done.stderr}"


def test_importing_the_facade_loads_no_transformers() -> None:
    program = (
        "import sys, stepbus; from stepbus import EventBus; "
        "assert not {'torch', 'transformers'} & set(sys.modules); "
        "from stepbus import TransformersBridge; assert 'transformers' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr


def test_without_transformers_the_bridge_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['transformers'] = None; from stepbus import TransformersBridge"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert "pip install 'transformers[torch]'" in done.stderr
