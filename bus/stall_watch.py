"""Notices a step that stands still, and says where."""

from __future__ import annotations

import math
import statistics
import sys
import traceback

from .diagnostics import get_logger
from .run_link import RunLink

log = get_logger()

LEAST_S = 60.0
"""No silence shorter than this is a stall."""
STEPS = 20
"""Nor one shorter than this many median steps."""


class StallWatch:
    """Looks at the pulse of one run, from the pump."""

    def __init__(self, link: RunLink, least_s: float = LEAST_S) -> None:
        self._link = link
        self._least_s = least_s
        self._stalled_at: float | None = None
        self._busy_until = -math.inf

    def look(self, now: float) -> None:
        """Emits `stalled` when no step has ended for too long, `resumed` when one has since."""
        pulse = self._link.pulse
        beat = pulse.beat_s
        if beat is None:
            return
        if self._stalled_at is not None:
            if beat > self._stalled_at:
                silent = beat - self._stalled_at
                self._stalled_at = None
                self._emit("resumed", {"silent_s": silent})
                log.warning(
                    f"run {self._link.run_id} goes on after standing still for {silent:.0f} s"
                )
            return
        if pulse.busy:
            self._busy_until = now
            return
        limit = self._limit_s(list(pulse.durations_s))
        silent = now - max(beat, self._busy_until)
        if silent > limit:
            self._stalled_at = beat
            stack = _stack_of(pulse.thread_id)
            self._emit("stalled", {"silent_s": silent, "limit_s": limit, "stack": stack})
            log.warning(
                f"run {self._link.run_id}: no step has ended for {silent:.0f} s; the training "
                f"thread stands at\n{stack}"
            )

    def _limit_s(self, durations_s: list[float]) -> float:
        typical = statistics.median(durations_s) if durations_s else 0.0
        return max(self._least_s, STEPS * typical)

    def _emit(self, kind: str, values: dict[str, object]) -> None:
        emitter = self._link.emitters[kind]
        if emitter.wanted:
            emitter.emit(values)


def _stack_of(thread_id: int) -> str:
    frame = sys._current_frames().get(thread_id)
    return "".join(traceback.format_stack(frame)) if frame is not None else "(the thread has ended)"
