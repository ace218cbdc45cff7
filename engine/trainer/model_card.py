"""The card of a model: `README.md` with metadata that the Hub reads, and how it was trained."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from ..checkpoint.model_files import saves_itself
from .card_hyperparameters import hyperparameters
from .card_results import Results, results_of, rounded, table
from .card_tasks import TASKS, metric_tags, task_of

if TYPE_CHECKING:
    from .hub_pushing import HubPushing

GENERATED = "generated_from_trainer"
_MORE = "More information needed"
_COMMENT = """
<!-- This card was written by the Trainer, from what it knows of the training. Read it, complete it,
and take this comment out. -->
"""
_NOT_FROM_THE_HUB = frozenset({"csv", "json", "pandas", "parquet", "text"})
_FRAMEWORKS = {
    "transformers": "Transformers",
    "torch": "Pytorch",
    "datasets": "Datasets",
    "tokenizers": "Tokenizers",
    "stepbus": "Stepbus",
}


class DataSets(NamedTuple):
    """What a model was trained and evaluated on."""

    names: list[str]
    tags: list[str]
    arguments: list[Any]
    metadata: list[dict[str, Any]]


def card_of(
    trainer: HubPushing,
    license_of: Callable[[str], str | None],
    *,
    language: Any,
    license: str | None,  # noqa: A002 - as create_model_card calls it
    tags: list[str],
    model_name: str | None,
    finetuned_from: str | None,
    tasks: Any,
    dataset_tags: Any,
    dataset: Any,
    dataset_args: Any,
) -> str:
    """The text of the card.

    Args:
        trainer: whose model it is.
        license_of: the license of a model on the Hub.
        language, license, tags, model_name, finetuned_from, tasks, dataset_tags, dataset,
            dataset_args: as `create_model_card` gets them.
    """
    results = results_of(trainer.state.log_history)
    data = _data_sets(trainer, dataset, dataset_tags, dataset_args)
    origin = finetuned_from if finetuned_from is not None else _origin_of(trainer.model)
    if license is None and origin:
        license = license_of(origin)  # noqa: A001
    if tasks is None:
        tasks = task_of(type(trainer.model).__name__)
    name = model_name or Path(trainer.args.output_dir).name or origin or ""
    tags = tags if GENERATED in tags else [*tags, GENERATED]
    metrics = metric_tags(results.last or {})
    head = {
        "library_name": "transformers" if saves_itself(trainer.model) else None,
        "language": _listed(language),
        "license": license,
        "base_model": origin,
        "tags": tags,
        "datasets": [tag for tag in data.tags if tag is not None],
        "metrics": list(metrics),
    }
    front = {key: value for key, value in head.items() if value}
    front["model-index"] = [
        {"name": name, "results": _index(_listed(tasks), data, metrics, results)}
    ]
    body = _body(name, origin, data, results, hyperparameters(trainer.args))
    return f"---\n{yaml.dump(front, sort_keys=False)}---\n{_COMMENT}{body}"


def _body(
    name: str,
    origin: str | None,
    data: DataSets,
    results: Results,
    arguments: Mapping[str, Any],
) -> str:
    begins = (
        f"This model is a fine-tuned version of [{origin}](https://huggingface.co/{origin}) on "
        if origin
        else "This model was trained from scratch on "
    )
    text = f"\n# {name}\n\n{begins}{_named(data.names)}"
    if results.last is not None:
        text += "\nIt achieves the following results on the evaluation set:\n"
        text += "\n".join(f"- {key}: {rounded(value)}" for key, value in results.last.items())
    text += "\n"
    for title in ("Model description", "Intended uses & limitations"):
        text += f"\n## {title}\n\n{_MORE}\n"
    text += f"\n## Training and evaluation data\n\n{_MORE}\n\n## Training procedure\n"
    text += "\n### Training hyperparameters\n"
    text += "\nThe following hyperparameters were used during training:\n"
    text += "".join(f"- {key}: {value}\n" for key, value in arguments.items())
    if results.rows is not None:
        text += f"\n### Training results\n\n{table(results.rows)}\n"
    return f"{text}\n### Framework versions\n\n{_versions()}"


def _named(names: list[str]) -> str:
    if not names:
        return "an unknown dataset."
    if len(names) == 1:
        return f"the {names[0]} dataset."
    return ", ".join(f"the {name}" for name in names[:-1]) + f" and the {names[-1]} datasets."


def _versions() -> str:
    text = ""
    for package, shown in _FRAMEWORKS.items():
        try:
            text += f"- {shown} {version(package)}\n"
        except PackageNotFoundError:
            continue
    return text


def _index(
    tasks: list[str], data: DataSets, metrics: Mapping[str, str], results: Results
) -> list[dict[str, Any]]:
    """A result for each task and data set; the Hub takes none without metrics."""
    named = [task for task in tasks if task in TASKS]
    if not (metrics and results.last):
        return []
    found = []
    for task in named:
        for at, tag in enumerate(data.tags):
            dataset: dict[str, Any] = {"name": data.names[at], "type": tag}
            dataset |= data.metadata[at] if at < len(data.metadata) else {}
            if at < len(data.arguments) and data.arguments[at] is not None:
                dataset["args"] = data.arguments[at]
            found.append(
                {
                    "task": {"name": TASKS[task], "type": task},
                    "dataset": dataset,
                    "metrics": [
                        {"name": name, "type": kind, "value": results.last[name]}
                        for kind, name in metrics.items()
                    ],
                }
            )
    return found


def _data_sets(trainer: HubPushing, names: Any, tags: Any, arguments: Any) -> DataSets:
    metadata: list[dict[str, Any]] = []
    one = trainer.eval_dataset if trainer.eval_dataset is not None else trainer.train_dataset
    if _is_of_datasets(one):
        tag = one.builder_name
        if tag not in _NOT_FROM_THE_HUB:
            metadata = [{"config": one.config_name, "split": str(one.split)}]
            tags = [tag] if tags is None else tags
            arguments = [one.config_name] if arguments is None else arguments
    names = tags if names is None else names
    tagged, named = _listed(tags), [name for name in _listed(names) if name is not None]
    pairs = min(len(tagged), len(named))
    return DataSets(named, tagged[:pairs], _listed(arguments), metadata)


def _is_of_datasets(dataset: Any) -> bool:
    package = sys.modules.get("datasets")
    kinds = tuple(getattr(package, name, ()) or () for name in ("Dataset", "IterableDataset"))
    return package is not None and isinstance(dataset, kinds)


def _origin_of(model: Any) -> str | None:
    """Where its weights came from, if that is no folder; None where it is not known."""
    origin = getattr(getattr(model, "config", None), "_name_or_path", None)
    return origin if origin and not Path(origin).is_dir() else None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def front_matter(path: Path) -> dict[str, Any]:
    """The metadata of a card; empty where there is none that can be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    if not text.startswith("---\n"):
        return {}
    try:
        found = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}
