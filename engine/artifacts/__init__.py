"""Text, images, tables and files beside the numbers: checked, encoded, and said."""

from .emitting import Artifacts
from .methods import LogsArtifacts

__all__ = ["Artifacts", "LogsArtifacts"]
