"""The fixtures that put a case through both libraries, and a place for what a script writes."""

from __future__ import annotations

from tests.differential.conftest import check, isolated, outcome_of
from tests.subscribers.uploads.conftest import hub, hub_server

__all__ = ["check", "hub", "hub_server", "isolated", "outcome_of"]
