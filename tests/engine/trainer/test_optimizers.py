"""The optimizer is the reference's: its groups, its numbers, and the weights after five steps."""

from __future__ import annotations

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stepbus import ArgumentError, TrainingArguments
from stepbus.engine.trainer.optimizers import TrainerOptimization, decay_parameter_names

transformers: Any = import_module("transformers")


class Norms(nn.Module):
    """Names and kinds of norm that the rule tells apart."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Linear(4, 4)
        self.after_norm = nn.Linear(4, 4)
        self.normal = nn.Linear(4, 4)
        self.Layer = nn.ModuleDict({"inner": nn.LayerNorm(4), "RMSNorm": nn.Linear(4, 4)})
        self.scale = nn.Parameter(torch.ones(4))
        self.own_bias = nn.Parameter(torch.zeros(4))
        self.frozen = nn.Parameter(torch.zeros(4), requires_grad=False)
        self.empty = nn.Linear(4, 4, bias=False)
        self.tied = self.normal

    def forward(self, x: Any, labels: Any = None) -> Any:
        for layer in (self.norm, self.after_norm, self.normal, *self.Layer.values(), self.empty):
            x = layer(x).tanh()
        return ((x * self.scale + self.own_bias) ** 2).mean(), x


def gpt2() -> Any:
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 8, "vocab_size": 16}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))


class Ours(TrainerOptimization):
    def __init__(self, model: nn.Module, args: Any) -> None:
        self.model, self.args = model, args
        self.optimizer = self.lr_scheduler = self.optimizer_cls_and_kwargs = None
        self._created_lr_scheduler = False


def alone(folder: Path, **options: Any) -> Any:
    return Ours(Norms(), TrainingArguments(str(folder), use_cpu=True, **options))


def pair(model: nn.Module, folder: Path, **options: Any) -> tuple[Any, Any]:
    """Our part and the reference's Trainer, each with a copy of the model."""
    options = {"output_dir": str(folder), "use_cpu": True, "report_to": "none", **options}
    args = transformers.TrainingArguments(**options)
    reference = transformers.Trainer(copy.deepcopy(model), args)
    return Ours(copy.deepcopy(model), TrainingArguments(**options)), reference


def steps(trainer: Any, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    trainer.create_optimizer_and_scheduler(6)
    trainer.model.eval()
    for _ in range(5):
        outputs = trainer.model(**inputs)
        (outputs["loss"] if isinstance(outputs, dict) else outputs[0]).backward()
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        trainer.optimizer.zero_grad()
    weights: dict[str, torch.Tensor] = trainer.model.state_dict()
    return weights


def plain(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


OPTIONS: list[dict[str, Any]] = [
    {},
    {"optim": "adamw_torch", "adam_beta1": 0.8, "adam_epsilon": 1e-6},
    {"optim": "sgd"},
    {"optim": "sgd", "optim_args": "momentum=0.9, nesterov=True, weight_decay=0.5"},
    {"optim": "adagrad", "optim_args": "lr_decay=0.1,eps=1e-6"},
    {"optim": "rmsprop", "optim_args": "alpha=0.9,centered=yes,momentum=0.1"},
    {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 2}, "warmup_steps": 0.4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["gpt2", "plain"])
def test_five_steps_give_the_reference_s_weights(
    kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = gpt2() if kind == "gpt2" else Norms()
    ids = torch.randint(0, 16, (2, 8))
    inputs = {"input_ids": ids, "labels": ids} if kind == "gpt2" else {"x": torch.randn(3, 4)}
    options = {"learning_rate": 1e-2, "weight_decay": 0.1, "warmup_steps": 1, **options}
    ours, reference = pair(model, tmp_path, **options)
    own, expected = steps(ours, inputs), steps(reference, inputs)

    assert type(ours.optimizer) is type(reference.optimizer)
    names = [{id(p): n for n, p in t.model.named_parameters()} for t in (ours, reference)]
    groups = [
        [(plain(g), [known[id(p)] for p in g["params"]]) for g in t.optimizer.param_groups]
        for known, t in zip(names, (ours, reference), strict=True)
    ]
    assert groups[0] == groups[1]
    assert all(torch.equal(own[name], expected[name]) for name in expected)
    assert ours.get_learning_rates() == reference.get_learning_rates()
    assert ours._get_learning_rate() == reference._get_learning_rate()
    assert ours.get_num_trainable_parameters() == reference.get_num_trainable_parameters()
    assert ours._created_lr_scheduler is True


@pytest.mark.parametrize("make", [gpt2, Norms, lambda: nn.LayerNorm(3), lambda: nn.Linear(2, 2)])
def test_decay_applies_to_the_parameters_that_it_applies_to_there(
    make: Any, tmp_path: Path
) -> None:
    model = make()
    _, reference = pair(nn.Linear(1, 1), tmp_path)
    assert decay_parameter_names(model) == reference.get_decay_parameter_names(model)


def test_what_was_given_is_kept(tmp_path: Path) -> None:
    ours = alone(tmp_path)
    given = torch.optim.SGD(ours.model.parameters(), lr=0.1)
    ours.optimizer = given
    ours.lr_scheduler = schedule = torch.optim.lr_scheduler.ConstantLR(given)
    ours.create_optimizer_and_scheduler(5)
    assert ours.optimizer is given
    assert ours.lr_scheduler is schedule
    assert ours._created_lr_scheduler is False


def test_a_class_of_the_user_s_gets_the_groups(tmp_path: Path) -> None:
    ours = alone(tmp_path, weight_decay=0.2)
    kwargs = {"lr": 0.5}
    ours.optimizer_cls_and_kwargs = (torch.optim.Adam, kwargs)
    optimizer = ours.create_optimizer()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]
    assert ours.get_learning_rates() == [0.5, 0.5]


def test_groups_and_factories_of_the_user_s_are_taken(tmp_path: Path) -> None:
    ours = alone(tmp_path)
    kwargs = {"lr": 0.5, "params": [ours.model.scale]}
    ours.optimizer_cls_and_kwargs = (torch.optim.Adam, kwargs)
    assert ours.create_optimizer().param_groups[0]["params"][0] is ours.model.scale
    assert "params" in kwargs

    class Factory:
        def __call__(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
            return torch.optim.SGD(model.parameters(), lr=lr)

    ours.optimizer, ours.optimizer_cls_and_kwargs = None, (Factory, {"lr": 3.0})
    assert ours.create_optimizer(ours.model.norm).param_groups[0]["lr"] == 3.0


def test_a_parameter_s_group_is_found_by_identity_and_by_name(tmp_path: Path) -> None:
    ours = alone(tmp_path, weight_decay=0.2)
    ours.create_optimizer()
    assert ours.get_optimizer_group(ours.model.scale)["weight_decay"] == 0.2
    assert ours.get_optimizer_group("own_bias")["weight_decay"] == 0.0
    everything = [group["params"] for group in ours.optimizer.param_groups]
    for query in (None, "nowhere", ours.model.frozen):
        found = ours.get_optimizer_group(query)
        assert [list(map(id, ps)) for ps in found] == [list(map(id, ps)) for ps in everything]


def test_a_plateau_s_rate_is_that_of_the_optimizer(tmp_path: Path) -> None:
    ours = alone(tmp_path, lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="epoch")
    ours.create_optimizer_and_scheduler(5)
    ours.optimizer.param_groups[0]["lr"] = torch.tensor(0.25)
    assert ours._get_learning_rate() == 0.25


def test_a_model_without_anything_to_train_is_refused(tmp_path: Path) -> None:
    ours = alone(tmp_path)
    ours.model.requires_grad_(False)
    with pytest.raises(ArgumentError, match="No parameter of Norms is to be trained"):
        ours.create_optimizer()


def test_questions_before_there_is_an_optimizer_are_refused(tmp_path: Path) -> None:
    ours = alone(tmp_path)
    for ask in (ours.get_learning_rates, ours.get_optimizer_group):
        with pytest.raises(ArgumentError, match=r"no optimizer yet: call create_optimizer\(\)"):
            ask()
    with pytest.raises(ArgumentError, match="no optimizer yet"):
        ours.create_scheduler(5)


@pytest.mark.parametrize(
    ("optim_args", "message"),
    [
        ("momentum", "optim_args has 'momentum': write name=value"),
        ("momentum=fast", "optim_args has 'momentum=fast': momentum is a number"),
    ],
)
def test_optim_args_that_cannot_be_read_are_refused(
    optim_args: str, message: str, tmp_path: Path
) -> None:
    args = TrainingArguments(str(tmp_path), optim="sgd", optim_args=optim_args, use_cpu=True)
    with pytest.raises(ArgumentError, match=message):
        TrainerOptimization.get_optimizer_cls_and_kwargs(args)


def test_optim_args_that_have_no_effect_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = TrainingArguments(str(tmp_path), optim_args="beta3=0.9", use_cpu=True)
    chosen, kwargs = TrainerOptimization.get_optimizer_cls_and_kwargs(args)
    assert chosen is torch.optim.AdamW
    assert kwargs == {"lr": 5e-5, "betas": (0.9, 0.999), "eps": 1e-8, "fused": True}
    assert "takes no 'beta3', which has no effect; it takes none." in caplog.messages[0]
