"""Subscribers that `report_to` can name: what they say of themselves, and their packages."""

from __future__ import annotations

import importlib.util
import sys
from types import FunctionType, ModuleType
from typing import ClassVar

from ..bus.built_in import BuiltInCallback
from ..bus.subscriber import Subscriber
from ..schemas.errors import DeliveryError


class Reporter(Subscriber):
    """A subscriber that writes somewhere; it can be named in `report_to`."""

    package: ClassVar[str] = ""
    """The package that it writes with, where it is not one of stepbus's own."""
    extra: ClassVar[str] = ""
    """The extra of stepbus that installs the package."""

    @classmethod
    def is_installed(cls) -> bool:
        """Whether its package can be imported; does not import it."""
        return not cls.package or _is_there(cls.package)

    @classmethod
    def why_not(cls) -> str:
        """Why it cannot be used though it is installed, as a clause; empty where nothing is in the
        way, or where only `open()` can tell."""
        return ""

    @classmethod
    def not_installed(cls, error: ImportError) -> DeliveryError:
        """The error of an `open()` that could not import the package."""
        return DeliveryError(
            f"{cls.__name__} needs the package {cls.package}, which cannot be imported ({error}): "
            f"pip install 'stepbus[{cls.extra}]'."
        )


class Tracker(Reporter, BuiltInCallback):
    """A reporter to a tracker of experiments: it takes part in `report_to=None` and "all".

    Write its methods `on_<event>(self, event)` under `@both_shapes`, see `BuiltInCallback`.
    """

    tracker_name: ClassVar[str] = ""
    """Its name in `report_to`."""
    needs_login: ClassVar[bool] = False
    """Whether it can do nothing without an account."""
    set_up_by: ClassVar[str] = ""
    """What sets it up, where being installed does not: its variables, its login."""
    modules: ClassVar[tuple[str, ...]] = ()
    """Modules by which a script uses the tracker itself."""

    @classmethod
    def is_set_up(cls) -> bool:
        """Whether someone who asks for nothing gets it: installed, and logged in if need be."""
        return cls.is_installed() and not cls.needs_login

    def why_here(self) -> str:
        """A script that uses the tracker's own module means the run that is in its process."""
        for name, value in list(vars(sys.modules["__main__"]).items()):
            if isinstance(value, ModuleType):
                used = value.__name__
            elif isinstance(value, type | FunctionType):
                used = str(value.__module__)
            else:
                continue
            if any(f"{used}.".startswith(f"{module}.") for module in self.modules):
                return (
                    f"the script has {name} of {used} itself. If the two have nothing to do with "
                    f"each other: bus.subscribe({type(self).__name__}, delivery='process')."
                )
        return ""


def tracker_key(name: str) -> str:
    """The name of a logged value in a tracker: eval/x of eval_x, test/x of test_x, train/x of x."""
    for part in ("eval", "test"):
        if name.startswith(f"{part}_"):
            return f"{part}/{name.removeprefix(f'{part}_')}"
    return f"train/{name}"


def _is_there(package: str) -> bool:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    # A folder of that name in the working directory (a tracker's own output) has no origin.
    return spec is not None and spec.origin is not None
