"""The end of an optimizer step: announced, its votes counted, its time taken."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from ..bus import RunLink
from ..bus.idling import CALL, LOG_ALONE, NOTHING
from .front_end import FrontEnd
from .metric_buffer import Number, number_of
from .signals import StopSignals

if TYPE_CHECKING:
    from .working import Working


class StepClosing:
    """Ends the steps of one run.

    What no step can do without is in one frame, and what few steps need is looked at before it is
    called: the model has displaced all of this from the caches, so that a call costs some ten times
    what it does in a warm loop.
    """

    def __init__(
        self,
        link: RunLink,
        working: Working,
        signals: StopSignals | None,
        front_end: FrontEnd,
    ) -> None:
        self._stepping = working.stepping
        self._acting = working.acting
        self._rounds = working.rounds
        self._watch = working.watch
        self._histograms = working.histograms
        self._artifacts = working.artifacts
        self._link = link
        self._state = link.state
        self._gate = link.gate
        self._emitter = link.emitters["step_end"]
        self._log = link.emitters["log"]
        self._front_end = front_end
        self._votes = link.votes
        self._control = link.control
        self._pulse = link.pulse
        self._note_duration = link.pulse.durations_s.append
        self._note_cost = link.account.note_step
        self._monotonic = link.bus.clock.monotonic
        self._signals = signals
        self._left_s = 0.0
        self._bus_s = 0.0

    def begin(self) -> None:
        """The first step begins."""
        self._left_s = time.perf_counter()
        self._acting.seconds = self._acting.log_s = 0.0
        self._pulse.beat_s = self._monotonic()

    def __call__(self, loss: Number | None, grad_norm: Number | None) -> None:
        """Ends a step; see `Run.end_step`."""
        entered_s = time.perf_counter()
        stepping, acting, votes = self._stepping, self._acting, self._votes
        link, emitter, gate, signals = self._link, self._emitter, self._gate, self._signals
        control = self._control
        stepping.end_step()
        # Actions at the end of the last epoch are no part of the step.
        step_s = entered_s - self._left_s - acting.seconds
        self._note_duration(step_s)
        votes.step = self._state.global_step
        if isinstance(grad_norm, torch.Tensor) and grad_norm.is_cpu:
            grad_norm = number_of(grad_norm)
        watch = self._watch
        if watch.defers:
            loss, grad_norm = watch.start(loss, grad_norm)
        acting.grad_norm = grad_norm
        acting.seconds = 0.0
        due = NOTHING
        if emitter.gated:
            due = CALL if gate.subscriptions else gate.idling.due(self._state)
            if due == LOG_ALONE and (
                self._log.gated
                or self._front_end.sees_flags_in_logs
                or control.touched
                or votes.has_votes
            ):
                # Somebody would see the flag, or what is asked for besides comes into one round.
                due = CALL
        if emitter.wanted or due == CALL:
            acting.end_step(
                loss,
                grad_norm,
                step_s,
                stepping.data_wait_s,
                self._bus_s,
                asks_gate=due == CALL,
            )
        if self._histograms.pending:
            self._histograms.emit()
        if self._artifacts.pending:
            self._artifacts.emit()
        watch.look(loss, grad_norm)
        if due == LOG_ALONE:
            acting.log_as_scheduled()
        # As `hold` sees for itself.
        if control.touched or votes.has_votes or (signals is not None and signals.unheard):
            self._rounds.hold("step_end")
        if link.listeners_changed:
            link.note_listeners()
        left_s = self._left_s = time.perf_counter()
        self._pulse.beat_s = self._monotonic()
        bus_s = self._bus_s = left_s - entered_s - acting.seconds + acting.log_s
        acting.seconds = acting.log_s = 0.0
        self._note_cost(bus_s)
