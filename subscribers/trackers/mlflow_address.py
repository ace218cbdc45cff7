"""Whose server an address of MLflow is: DagsHub's, Azure ML's, or anybody's."""

from __future__ import annotations

import importlib.util
import os
from typing import NamedTuple
from urllib.parse import urlsplit

DAGSHUB = "https://dagshub.com"


class DagsHubAddress(NamedTuple):
    """The repository of DagsHub that an address of MLflow belongs to."""

    owner: str
    """A user or an organization."""
    name: str
    """Of the repository."""


def dagshub_host() -> str:
    """Where DagsHub is: DAGSHUB_CLIENT_HOST, or the service itself."""
    return (os.environ.get("DAGSHUB_CLIENT_HOST") or DAGSHUB).rstrip("/")


def dagshub_address(uri: str | None) -> DagsHubAddress | None:
    """The repository of an address `https://dagshub.com/<owner>/<name>.mlflow`; None for another
    address."""
    given, host = urlsplit(uri or ""), urlsplit(dagshub_host())
    if (given.hostname, given.port) != (host.hostname, host.port):
        return None
    parts = given.path.removeprefix(host.path).strip("/").split("/")
    if len(parts) != 2 or not parts[0] or not parts[1].endswith(".mlflow"):
        return None
    name = parts[1].removesuffix(".mlflow")
    return DagsHubAddress(parts[0], name) if name else None


def is_of_azure(uri: str | None) -> bool:
    """Whether an address is that of an Azure ML workspace."""
    return (uri or "").startswith("azureml:")


def tracker_of_its_own(uri: str | None) -> str:
    """The name of the tracker that is made for an address, where its package is installed."""
    if dagshub_address(uri) is not None and has_module("dagshub"):
        return "dagshub"
    return "azure_ml" if is_of_azure(uri) and has_module("azureml.mlflow") else ""


def has_module(name: str) -> bool:
    """Whether a module can be imported; of a package in a package the outer one is."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
