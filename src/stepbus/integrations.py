"""The callbacks of trackers, under the name of the module that scripts take them from.

`from stepbus.integrations import TensorBoardCallback` gives the same class as
`from stepbus import TensorBoardCallback`; like there, nothing is loaded before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .late_names import no_such_name

if TYPE_CHECKING:
    from .subscribers import (
        AzureMLCallback,
        ClearMLCallback,
        CodeCarbonCallback,
        CometCallback,
        DagsHubCallback,
        DVCLiveCallback,
        FlyteCallback,
        KubeflowCallback,
        MLflowCallback,
        SwanLabCallback,
        TensorBoardCallback,
        TrackioCallback,
        WandbCallback,
    )

__all__ = [
    "AzureMLCallback",
    "ClearMLCallback",
    "CodeCarbonCallback",
    "CometCallback",
    "DVCLiveCallback",
    "DagsHubCallback",
    "FlyteCallback",
    "KubeflowCallback",
    "MLflowCallback",
    "SwanLabCallback",
    "TensorBoardCallback",
    "TrackioCallback",
    "WandbCallback",
]


def closed(module: str, name: str) -> str | None:
    """What to say of the callback of a service that closed; None of any other name.

    Args:
        module: who was asked for it.
        name: the name.
    """
    if name == "NeptuneCallback":
        return f"{module} has no {name}: the service closed in March 2026."
    return None


if not TYPE_CHECKING:  # A checker must see the names above, and no others.

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise no_such_name(
                __name__,
                closed(__name__, name)
                or f"{__name__} has no {name}: it has {', '.join(__all__)}, and all else stays "
                "in transformers.integrations.",
            )
        value = getattr(importlib.import_module(".subscribers", __package__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
