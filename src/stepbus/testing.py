"""For tests of your own: a recorder of events, scripted votes, a clock that you turn."""

from .bus.testing import FakeClock, Recorder, ScriptedVotes

__all__ = ["FakeClock", "Recorder", "ScriptedVotes"]
