"""The Trainer's logs where its losses are on a slow accelerator: equal, and not waited for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from torch import Tensor

from stepbus import Trainer
from tests.engine.slow_device import SlowDevice

if TYPE_CHECKING:
    from tests.engine.trainer.conftest import Watcher

from tests.engine.trainer import conftest

Make = Callable[..., Trainer]

STEPS = {"logging_strategy": "steps", "logging_steps": 3, "num_train_epochs": 2}
TIMED = {
    *("train_runtime", "train_samples_per_second", "train_steps_per_second"),
    *("train_tokens_per_second", "eval_runtime"),
}


class OnDevice(Trainer):
    """Puts the losses of its micro-batches on a device, where it has one."""

    slow_device: SlowDevice | None = None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        return loss if self.slow_device is None else self.slow_device.tensor(loss)


def trained(
    make_trainer: Make, device: SlowDevice | None, kind: type[OnDevice] = OnDevice, **fields: Any
) -> tuple[OnDevice, Watcher]:
    watcher = conftest.Watcher()
    given = {"callbacks": [watcher], "eval_dataset": conftest.samples(8, seed=2)}
    trainer = make_trainer(trainer_class=kind, given=given, **{**STEPS, **fields})
    assert isinstance(trainer, OnDevice)
    trainer.slow_device = device
    trainer.train()
    return trainer, watcher


def logs(watcher: Watcher) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in event.logs.items() if name not in TIMED}
        for event in watcher.of("log")
    ]


def waits(trainer: Trainer) -> dict[str, int]:
    run = trainer.ledger.run
    assert run is not None
    return run.waits


@pytest.mark.parametrize("accumulation", [1, 4])
def test_logs_weights_and_the_mean_loss_equal_those_of_the_cpu_to_the_bit(
    make_trainer: Make, device: SlowDevice, accumulation: int
) -> None:
    fields: dict[str, Any] = {
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 4,
    }
    slow, watched = trained(make_trainer, device, folder="slow", **fields)
    host, beside = trained(make_trainer, None, folder="host", **fields)
    assert logs(watched) == logs(beside)
    assert len(logs(watched)) == 24 // accumulation // 3 + 1
    assert conftest.weights(slow) == conftest.weights(host)
    losses = [[e.loss for e in each.of("step_end")] for each in (watched, beside)]
    # Of several micro-batches the device adds up in float32, the host in float64.
    assert losses[0] == (losses[1] if accumulation == 1 else pytest.approx(losses[1], rel=1e-6))
    assert waits(slow).keys() <= {"the end of training"}
    assert waits(host) == {}


def test_no_step_waits_for_a_device_that_is_held_until_the_last(
    make_trainer: Make, device: SlowDevice
) -> None:
    class Releases(OnDevice):
        def training_step(self, *given: Any, **named: Any) -> Tensor:
            loss = super().training_step(*given, **named)
            if self.state.global_step == self.state.max_steps - 1:
                assert device.waits == []
                device.release()
            return loss

    device.hold()
    _, watcher = trained(make_trainer, device, Releases, gradient_accumulation_steps=2)
    assert len(watcher.of("step_end")) == 6


def test_an_override_of_log_gets_numbers_and_is_named_for_the_wait(
    make_trainer: Make, device: SlowDevice
) -> None:
    class Perplexing(OnDevice):
        def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
            if "loss" in logs:
                logs["perplexity"] = math.exp(logs["loss"])
            if self.state.global_step == self.state.max_steps:
                device.release()
            super().log(logs, start_time)

    device.work_when_waited_for()
    trainer, watcher = trained(make_trainer, device, Perplexing)
    first = watcher.of("log")[0].logs
    assert first["perplexity"] == math.exp(first["loss"])
    assert waits(trainer)["Perplexing.log"] == 4


def test_tensors_given_to_log_join_the_next_log_round_as_means(
    make_trainer: Make, device: SlowDevice
) -> None:
    class Logs(OnDevice):
        def training_step(self, *given: Any, **named: Any) -> Tensor:
            self.log({"aux": device.tensor(float(self.state.global_step)), "half": 0.5})
            return super().training_step(*given, **named)

    trainer, watcher = trained(make_trainer, device, Logs, num_train_epochs=1)
    assert [(log["aux"], log["half"]) for log in logs(watcher)[:2]] == [(1.0, 0.5), (4.0, 0.5)]
    assert trainer.state.log_history[0]["aux"] == 1.0
    assert waits(trainer).keys() <= {"the end of training"}


class WithTokens(conftest.Regression):
    main_input_name = "x"


def test_tokens_that_are_counted_on_the_device_are_not_waited_for_either(
    make_trainer: Make, device: SlowDevice
) -> None:
    fields: dict[str, Any] = {"include_num_input_tokens_seen": "non_padding", "logging_steps": 2}
    device.hold()

    class Releases(OnDevice):
        def training_step(self, *given: Any, **named: Any) -> Tensor:
            count = lambda inputs, main: device.tensor((main > 0).sum())  # noqa: E731
            self._counts._tokens_of = count  # type: ignore[method-assign]
            if self.state.global_step == self.state.max_steps - 1:
                assert device.waits == []
                assert self.state.num_input_tokens_seen == 0
                device.release()
            return super().training_step(*given, **named)

    slow, watched = trained(
        make_trainer, device, Releases, folder="slow", model=WithTokens(), **fields
    )
    seen = [log["num_input_tokens_seen"] for log in logs(watched)]
    tokens = [int((sample["x"] > 0).sum()) for sample in conftest.samples()]
    assert seen[-1] == slow.state.num_input_tokens_seen == 2 * sum(tokens)
    assert all(type(count) is int for count in seen)
    assert seen == sorted(set(seen[:-1])) + seen[-1:]
    speeds = [event.logs["train_tokens_per_second"] for event in watched.of("log")[:-1]]
    assert all(type(speed) is float and speed > 0 for speed in speeds)


def test_a_checkpoint_and_a_resume_go_on_with_what_was_on_the_device(
    make_trainer: Make, device: SlowDevice
) -> None:
    fields: dict[str, Any] = {"save_strategy": "steps", "save_steps": 5, "logging_steps": 4}
    whole, watched = trained(make_trainer, device, folder="whole", **fields)
    assert waits(whole).keys() <= {"a checkpoint", "the end of training"}
    watcher = conftest.Watcher()
    resumed = make_trainer(
        trainer_class=OnDevice,
        folder="whole",
        given={"callbacks": [watcher]},
        **{**STEPS, **fields},
    )
    assert isinstance(resumed, OnDevice)
    resumed.slow_device = device
    resumed.train(resume_from_checkpoint=f"{resumed.args.output_dir}/checkpoint-5")
    assert logs(watcher) == logs(watched)[1:]
    assert conftest.weights(resumed) == conftest.weights(whole)


def test_an_evaluation_between_deferred_logs_keeps_their_order(
    make_trainer: Make, device: SlowDevice
) -> None:
    _, watcher = trained(make_trainer, device, eval_strategy="steps", eval_steps=3)
    kinds = [
        "eval" if "eval_loss" in event.logs else "end" if "train_loss" in event.logs else "train"
        for event in watcher.of("log")
    ]
    assert kinds == ["train", "eval"] * 4 + ["end"]
    assert [event.step for event in watcher.of("log")] == [3, 3, 6, 6, 9, 9, 12, 12, 12]
    assert all(math.isfinite(event.metrics["eval_loss"]) for event in watcher.of("evaluate"))


def test_the_end_of_an_evaluation_waits_on_its_own_account(
    make_trainer: Make, device: SlowDevice
) -> None:
    class Evaluates(OnDevice):
        def prediction_step(self, *given: Any, **named: Any) -> Any:
            loss, logits, labels = super().prediction_step(*given, **named)
            return device.tensor(loss), logits, labels

    def evaluated(kind: type[OnDevice], folder: str) -> tuple[OnDevice, dict[str, Any]]:
        given = {"eval_dataset": conftest.samples(8, seed=2)}
        trainer = make_trainer(trainer_class=kind, folder=folder, given=given)
        assert isinstance(trainer, OnDevice)
        return trainer, trainer.evaluate()

    slow, metrics = evaluated(Evaluates, "slow")
    host, beside = evaluated(OnDevice, "host")
    assert metrics["eval_loss"] == beside["eval_loss"]
    assert (waits(slow), waits(host)) == ({"an evaluation": 1}, {})
