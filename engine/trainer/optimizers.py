"""The optimizer and the schedule that the training arguments ask for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adagrad, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ...bus.diagnostics import get_logger
from ...schemas.errors import ArgumentError, nearest
from ..schedules import get_scheduler

log = get_logger()

_NOT_DECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|[._])norm(?:$|\.)")


def _truth(text: str) -> bool:
    return text.lower() in {"true", "1", "yes"}


_OPTIM_ARGS: dict[type[Optimizer], dict[str, Callable[[str], Any]]] = {
    AdamW: {},
    SGD: dict.fromkeys(("momentum", "dampening", "weight_decay"), float) | {"nesterov": _truth},
    Adagrad: dict.fromkeys(("lr_decay", "weight_decay", "eps"), float),
    RMSprop: dict.fromkeys(("momentum", "alpha", "eps", "weight_decay"), float)
    | {"centered": _truth},
}
"""What `optim_args` may say, as in the reference."""

_CLASSES: dict[str, type[Optimizer]] = {
    "adamw_torch_fused": AdamW,
    "adamw_torch": AdamW,
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
}


def optimizer_class_and_kwargs(args: Any) -> tuple[type[Optimizer], dict[str, Any]]:
    """The class and the keyword arguments of the optimizer that the arguments name.

    Raises:
        ArgumentError: there is no such optimizer here, or `optim_args` cannot be read.
    """
    name = str(getattr(args.optim, "value", args.optim))
    if name not in _CLASSES:
        raise ArgumentError(
            f"There is no optimizer {name!r} here: {nearest(name, _CLASSES)} Or pass one of your "
            "own: optimizers=(optimizer, scheduler)."
        )
    chosen = _CLASSES[name]
    kwargs: dict[str, Any] = {"lr": args.learning_rate}
    if chosen is AdamW:
        kwargs |= {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    if name == "adamw_torch_fused":
        kwargs["fused"] = True
    return chosen, kwargs | _read(name, args.optim_args, _OPTIM_ARGS[chosen])


def _read(name: str, text: str | None, taken: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for pair in (text or "").replace(" ", "").split(","):
        key, equals, value = pair.partition("=")
        if not pair:
            continue
        if not equals or not key:
            raise ArgumentError(f"optim_args has {pair!r}: write name=value, with commas between.")
        if key not in taken:
            takes = f"it takes {', '.join(taken)}" if taken else "it takes none"
            log.warning(
                f"optim_args: optim={name!r} takes no {key!r}, which has no effect; {takes}."
            )
            continue
        try:
            values[key] = taken[key](value)
        except ValueError:
            raise ArgumentError(f"optim_args has {pair!r}: {key} is a number.") from None
    return values


def decay_parameter_names(model: nn.Module) -> list[str]:
    """The parameters to which weight decay applies: all but biases and those of norms.

    A norm is an `nn.LayerNorm` inside the model, or what is called one in a parameter's name.
    """
    return list(_decayed(model, ""))


def _decayed(module: nn.Module, path: str) -> Iterator[str]:
    for name, child in module.named_children():
        if not isinstance(child, nn.LayerNorm):
            yield from _decayed(child, f"{path}{name}.")
    for name in module._parameters:
        if not _NOT_DECAYED.search(f"{path}{name}".lower()):
            yield path + name


class TrainerOptimization:
    """`create_optimizer` and what belongs to it, for the `Trainer` to inherit."""

    args: Any
    model: nn.Module
    optimizer: Optimizer | None
    lr_scheduler: LRScheduler | None
    optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None
    _created_lr_scheduler: bool

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Makes the optimizer and the scheduler, unless they were given.

        Args:
            num_training_steps: optimizer steps of the run.
        """
        self.create_optimizer()
        self.create_scheduler(num_training_steps=num_training_steps)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Makes the optimizer, unless it was given.

        Args:
            model: whose parameters it gets, by default the Trainer's model.

        Raises:
            ArgumentError: no parameter of the model is to be trained.
        """
        model = self.model if model is None else model
        if self.optimizer is None:
            groups = self._parameter_groups(model)
            if self.optimizer_cls_and_kwargs is not None:
                chosen, given = self.optimizer_cls_and_kwargs
            else:
                chosen, given = self.get_optimizer_cls_and_kwargs(self.args, model)
            kwargs = dict(given)
            if inspect.isclass(chosen) and issubclass(chosen, Optimizer):
                # Some optimizers want other groups, the model, or an optimizer for each parameter.
                for name in ("params", "model", "optimizer_dict"):
                    groups = kwargs.pop(name, groups)
                self.optimizer = chosen(groups, **kwargs)
            else:
                # What makes an optimizer of a whole model.
                self.optimizer = chosen()(model, **kwargs)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LRScheduler:
        """Makes the scheduler that the arguments name, unless it was given.

        Args:
            num_training_steps: optimizer steps of the run.
            optimizer: whose learning rate it moves, by default the Trainer's.

        Raises:
            ArgumentError: there is no optimizer yet, or `lr_scheduler_kwargs` do not fit.
        """
        if self.lr_scheduler is None:
            self.lr_scheduler = get_scheduler(
                self.args.lr_scheduler_type,
                optimizer=self._made_optimizer() if optimizer is None else optimizer,
                num_warmup_steps=self.args.get_warmup_steps(num_training_steps),
                num_training_steps=num_training_steps,
                scheduler_specific_kwargs=self.args.lr_scheduler_kwargs,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    @staticmethod
    def get_optimizer_cls_and_kwargs(
        args: Any, model: nn.Module | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The class and the keyword arguments of the optimizer that the arguments name.

        Raises:
            ArgumentError: there is no such optimizer here, or `optim_args` cannot be read.
        """
        return optimizer_class_and_kwargs(args)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """The parameters to which weight decay applies: all but biases and those of norms."""
        return decay_parameter_names(model)

    def get_learning_rates(self) -> list[float]:
        """The learning rate of each group of parameters.

        Raises:
            ArgumentError: there is no optimizer yet.
        """
        return [group["lr"] for group in self._made_optimizer().param_groups]

    def get_num_trainable_parameters(self) -> int:
        """How many numbers of the model are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def get_optimizer_group(self, param: nn.Parameter | str | None = None) -> Any:
        """The optimizer's group of a parameter; without one, the parameters of each group.

        Args:
            param: the parameter, or its name in the model.

        Raises:
            ArgumentError: there is no optimizer yet.
        """
        groups = self._made_optimizer().param_groups
        if isinstance(param, str):
            param = dict(self.model.named_parameters()).get(param)
        for group in groups if param is not None else ():
            if any(one is param for one in group["params"]):
                return group
        return [group["params"] for group in groups]

    def _get_learning_rate(self) -> float:
        if isinstance(self.lr_scheduler, ReduceLROnPlateau):
            rate = self._made_optimizer().param_groups[0]["lr"]
        else:
            assert self.lr_scheduler is not None
            rate = self.lr_scheduler.get_last_lr()[0]
        return rate.item() if isinstance(rate, torch.Tensor) else rate

    def _parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        decayed = set(self.get_decay_parameter_names(model))
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if not trained:
            raise ArgumentError(
                f"No parameter of {type(model).__name__} is to be trained (requires_grad is False "
                "for all): unfreeze some, or add adapters."
            )
        return [
            {
                "params": [p for name, p in trained if name in decayed],
                "weight_decay": self.args.weight_decay,
            },
            {"params": [p for name, p in trained if name not in decayed], "weight_decay": 0.0},
        ]

    def _made_optimizer(self) -> Optimizer:
        if self.optimizer is None:
            raise ArgumentError("There is no optimizer yet: call create_optimizer() first.")
        return self.optimizer
