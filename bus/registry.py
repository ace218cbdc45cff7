"""Which subscribers there are, by name: stepbus's own and those of other installed packages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..schemas.errors import ArgumentError, DeliveryError, nearest
from .report_to import Choice, describe, resolve_report_to
from .subscriber import Subscriber, TrainerCallback

GROUP = "stepbus.subscribers"
"""The entry point group in which packages declare their subscribers."""

OWN: Mapping[str, str] = {
    "azure_ml": "stepbus.subscribers.trackers.azure_ml:AzureMLCallback",
    "clearml": "stepbus.subscribers.trackers.clearml:ClearMLCallback",
    "codecarbon": "stepbus.subscribers.trackers.codecarbon:CodeCarbonCallback",
    "comet_ml": "stepbus.subscribers.trackers.comet:CometCallback",
    "csv": "stepbus.subscribers.history:CSVHistory",
    "dagshub": "stepbus.subscribers.trackers.dagshub:DagsHubCallback",
    "default_flow": "stepbus.subscribers.default_flow:DefaultFlowCallback",
    "dvclive": "stepbus.subscribers.trackers.dvclive:DVCLiveCallback",
    "early_stopping": "stepbus.subscribers.early_stopping:EarlyStoppingCallback",
    "flyte": "stepbus.subscribers.trackers.flyte:FlyteCallback",
    "hub": "stepbus.subscribers.uploads.hub:HubCallback",
    "jsonl": "stepbus.subscribers.history:JSONLHistory",
    "kubeflow": "stepbus.subscribers.trackers.kubeflow:KubeflowCallback",
    "loss_curve": "stepbus.subscribers.loss_curve:LossCurve",
    "mlflow": "stepbus.subscribers.trackers.mlflow:MLflowCallback",
    "printer": "stepbus.subscribers.printer:PrinterCallback",
    "progress": "stepbus.subscribers.progress:ProgressCallback",
    "structlog": "stepbus.subscribers.structured_log:StructuredLog",
    "swanlab": "stepbus.subscribers.trackers.swanlab:SwanLabCallback",
    "tensorboard": "stepbus.subscribers.tensorboard:TensorBoardCallback",
    "trackio": "stepbus.subscribers.trackers.trackio:TrackioCallback",
    "upload": "stepbus.subscribers.uploads.upload:UploadCallback",
    "wandb": "stepbus.subscribers.trackers.wandb:WandbCallback",
    "webhook": "stepbus.subscribers.webhook.webhook:WebhookCallback",
}
"""stepbus's own entry points, so that a source tree that nobody installed has its names too."""

__all__ = ["GROUP", "OWN", "Choice", "Registry", "describe", "resolve_report_to"]


class Registry:
    """Maps names to subscriber classes; a class is imported when it is asked for, not before.

    A package adds a subscriber of its own in its pyproject.toml:

        [project.entry-points."stepbus.subscribers"]
        my_tracker = "my_package.tracking:MyTracker"

    Args:
        entries: the entry points to choose from; those of all installed packages by default.
    """

    def __init__(self, entries: Iterable[EntryPoint] | None = None) -> None:
        found = entry_points(group=GROUP) if entries is None else entries
        self._entries: dict[str, list[EntryPoint]] = {
            name: [EntryPoint(name, value, GROUP)] for name, value in OWN.items()
        }
        for entry in found:
            claims = self._entries.setdefault(entry.name, [])
            if all(claim.value != entry.value for claim in claims):
                claims.append(entry)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def load(self, name: str) -> type[Any]:
        """The class behind a name, imported now.

        Raises:
            ArgumentError: nobody declared that name.
            DeliveryError: what was declared cannot be imported, is no subscriber class, or two
                packages declare the name.
        """
        claims = self._entries.get(name)
        if claims is None:
            raise ArgumentError(f"There is no subscriber {name!r}: {nearest(name, self._entries)}")
        if len(claims) > 1:
            raise DeliveryError(
                f"The subscriber {name!r} is declared by {' and by '.join(map(_origin, claims))}: "
                "uninstall one of them, or subscribe an instance of the class itself."
            )
        return _import(claims[0])


def _import(entry: EntryPoint) -> type[Any]:
    try:
        loaded = entry.load()
    except Exception as error:
        raise DeliveryError(
            f"The subscriber {entry.name!r} of {_origin(entry)} cannot be imported "
            f"({type(error).__name__}: {error}). Update or uninstall that package."
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Subscriber | TrainerCallback)):
        raise DeliveryError(
            f"The subscriber {entry.name!r} of {_origin(entry)} is {loaded!r}, no class derived "
            "from Subscriber or TrainerCallback. Update or uninstall that package."
        )
    return loaded


def _origin(entry: EntryPoint) -> str:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "stepbus"
    return f"{package} ({entry.value})"
