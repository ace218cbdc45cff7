"""The arguments of a job as flags of a command, each with its docstring as help."""

from __future__ import annotations

import argparse
import difflib
import shutil
from collections.abc import Sequence
from typing import Any, NoReturn, get_args

from ..schemas import TrainingArguments
from ..schemas.errors import ArgumentError
from ..schemas.text_job_arguments import TextJobArguments

GROUPS: dict[str, str] = {
    "how long": "max_steps num_train_epochs",
    "where to": "output_dir run_name report_to",
    "model": "block_size num_layers num_heads width dropout",
    "batches": "per_device_train_batch_size gradient_accumulation_steps dataloader_num_workers "
    "dataloader_drop_last",
    "optimizer": "learning_rate lr_scheduler_type warmup_steps weight_decay max_grad_norm "
    "adam_beta1 adam_beta2 adam_epsilon",
    "evaluation": "eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size "
    "num_eval_blocks",
    "written samples": "sample_length sample_temperature sample_prompt",
    "logs": "logging_strategy logging_steps logging_first_step disable_tqdm",
    "checkpoints": "save_strategy save_steps save_total_limit save_only_model "
    "load_best_model_at_end metric_for_best_model greater_is_better resume_from_checkpoint "
    "ignore_data_skip restore_callback_states_from_checkpoint",
    "machine": "seed data_seed bf16 use_cpu nan_policy preemption_budget_s drain_timeout_s",
}
"""The arguments that the text job obeys, by what they are about."""

NOT_FLAGS = frozenset({"files"})
"""Given without a name."""

METAVARS = {"output_dir": "DIR", "resume_from_checkpoint": "DIR", "report_to": "NAME,..."}

_OBEYED = NOT_FLAGS.union(*(names.split() for names in GROUPS.values()))
_FIELDS: dict[str, Any] = TextJobArguments.__pydantic_fields__  # type: ignore[attr-defined]
ALL_FIELDS = {name: field for name, field in _FIELDS.items() if name in _OBEYED}
"""Those of the arguments that the text job obeys; the others are for the `Trainer`."""

BASE_FIELDS: dict[str, Any] = TrainingArguments.__pydantic_fields__  # type: ignore[attr-defined]


class FlagParser(argparse.ArgumentParser):
    """An argparse parser whose errors are `ArgumentError`s that name the nearest flag."""

    def __init__(self, prog: str, description: str, **kwargs: Any) -> None:
        width = min(100, shutil.get_terminal_size().columns)
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            add_help=False,
            formatter_class=lambda prog: argparse.HelpFormatter(
                prog, max_help_position=36, width=width
            ),
            **kwargs,
        )
        self.options = self.add_argument_group("options")
        self.options.add_argument("-h", "--help", action="help", help="this text")

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage."""
        raise ArgumentError(f"{message.removeprefix('argument ')}. {self._see}")

    @property
    def _see(self) -> str:
        return f"See {self.prog} --help."

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """What was given, by name; flags may be written with `-` or `_`, before or after files.

        Raises:
            ArgumentError: an unknown flag, or one without its value.
        """
        spelled = [_kebab(word) for word in words]
        found, unknown = self.parse_known_intermixed_args(spelled)
        for word in unknown:
            if word.startswith("-"):
                raise ArgumentError(self._unknown(word.partition("=")[0]))
        if unknown:
            raise ArgumentError(f"{unknown[0]!r} is one word too many. {self._see}")
        return vars(found)

    def _unknown(self, flag: str) -> str:
        known = [flag for action in self._actions for flag in action.option_strings]
        close = difflib.get_close_matches(flag, known, n=1, cutoff=0.6)
        close = close or [name for name in known if len(flag) > 5 and flag[2:] in name][:3]
        hint = f"did you mean {' or '.join(close)}?" if close else self._see
        return f"There is no flag {flag}: {hint}"


def add_fields(parser: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    """Adds a flag for every argument of the text job, in groups.

    Args:
        defaults: what the help shows where it is not the class's own default.
    """
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names.split():
            _add_field(group, name, defaults)


def field_values(found: dict[str, Any]) -> dict[str, Any]:
    """Those of the parsed words that are arguments of the job, ready to be checked."""
    names = found.keys() & ALL_FIELDS.keys() - NOT_FLAGS
    return {name: _plain(name, found[name]) for name in names}


def description_of(name: str) -> str:
    """The docstring of an argument."""
    own = ALL_FIELDS[name].description
    return own or (BASE_FIELDS[name].description if name in BASE_FIELDS else "") or ""


def default_of(name: str) -> Any:
    """The default of an argument."""
    return ALL_FIELDS[name].get_default(call_default_factory=True)


def _add_field(group: Any, name: str, defaults: dict[str, Any]) -> None:
    flag = f"--{name.replace('_', '-')}"
    default = defaults.get(name, default_of(name))
    text = description_of(name).rstrip(".").replace("%", "%%")
    kinds = _kinds(ALL_FIELDS[name].annotation)
    if bool in kinds:
        _add_switch(group, name, default, text)
        return
    shown = "" if default in (None, "") or default == [] else f" [{_shown(default)}]"
    metavar = METAVARS.get(name) or ("N" if int in kinds else "X" if float in kinds else "TEXT")
    group.add_argument(
        flag, dest=name, metavar=metavar, default=argparse.SUPPRESS, help=f"{text}{shown}"
    )


def _add_switch(group: Any, name: str, default: Any, text: str) -> None:
    """`--x` and `--no-x`; the help shows the one that changes something."""
    flag = name.replace("_", "-")
    on = argparse.SUPPRESS if default else text
    off = f"Switch off: {text[0].lower()}{text[1:]}" if default else argparse.SUPPRESS
    common: dict[str, Any] = {"action": "store_const", "default": argparse.SUPPRESS, "dest": name}
    group.add_argument(f"--{flag}", const=True, help=on, **common)
    group.add_argument(f"--no-{flag}", const=False, help=off, **common)


def _plain(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name == "report_to":
        return [part.strip() for part in value.split(",") if part.strip()]
    optional = type(None) in _kinds(ALL_FIELDS[name].annotation)
    return None if optional and value.lower() in ("none", "null") else value


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation is made of."""
    parts = [part for part in get_args(annotation) if part is type(None) or _is_annotation(part)]
    return set().union(*(_kinds(part) for part in parts)) if parts else {annotation}


def _is_annotation(part: Any) -> bool:
    return isinstance(part, type) or bool(get_args(part))


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) and not value.isprintable() else str(value)


def _kebab(word: str) -> str:
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value
