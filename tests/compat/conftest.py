"""The fixtures that put a case through both libraries, and a place for what a script writes."""

from __future__ import annotations

from tests.differential.conftest import check, isolated, outcome_of

__all__ = ["check", "isolated", "outcome_of"]
