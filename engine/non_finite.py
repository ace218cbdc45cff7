"""NaN and infinities in a step's loss or gradient norm: noticed, reported, voted about."""

from __future__ import annotations

import math
from collections import Counter, deque

from torch import Tensor

from ..bus import RunLink
from ..bus.deferred import settled
from ..bus.diagnostics import get_logger
from ..schemas import TrainingArguments, Vote
from .metric_buffer import DeferredScalar, MetricBuffer, Number, number_of, read

log = get_logger()

WORDS = {"loss": "loss", "grad_norm": "gradient norm"}
VOTER = "nan_policy"


class NonFiniteWatch:
    """Looks at the loss and the gradient norm of each step, once they are on the host.

    What is there at the end of the step is looked at then. What is on a device comes through the
    ring and is looked at in the steps that follow, as far as it has arrived: nothing waits for it,
    and no kernel is spent on it, since whether a number is finite is asked of the host's copy.
    """

    def __init__(self, args: TrainingArguments, link: RunLink, metrics: MetricBuffer) -> None:
        self._args = args
        self._link = link
        self._metrics = metrics
        self._on_their_way: deque[tuple[int, str, DeferredScalar]] = deque()
        self._in_a_row: dict[str, int] = {}
        self._looked_at: frozenset[str] = frozenset()
        self.counts: Counter[str] = Counter()
        """Steps with a value that was not finite, by the value's name."""
        self.defers = False
        """Whether the values of steps are on a device."""

    def start(
        self, loss: Number | None, grad_norm: Number | None
    ) -> tuple[Number | None, Number | None]:
        """Starts the copies of a step's values; gives back what stands for them from here on."""
        (loss, grad_norm), _ = self._metrics.push((loss, grad_norm))
        return loss, grad_norm

    def look(self, loss: Number | None, grad_norm: Number | None) -> None:
        """Looks at what the present step gave."""
        number = loss if type(loss) is float else _on_host(loss)
        norm = grad_norm if type(grad_norm) is float else _on_host(grad_norm)
        if number is None or norm is None or self._looked_at:
            self._look_later(loss, grad_norm)
            return
        total = number + norm
        # One subtraction for both: of NaN and of infinity it gives NaN.
        if total - total != 0.0:
            self._judge(self._link.state.global_step, "loss", number)
            self._judge(self._link.state.global_step, "grad_norm", norm)
        elif self._in_a_row:
            self._in_a_row.clear()

    def check(self, loss: Number | None, grad_norm: Number | None) -> bool:
        """Whether the values of the step that is not done yet are finite; waits for them.

        What is not is reported here, and not once more at the step's end.
        """
        numbers, _ = self._metrics.push((loss, grad_norm))
        given = {n: v for n, v in zip(WORDS, numbers, strict=True) if v is not None}
        found = self._metrics.waits.fill(given, f"nan_policy={self._args.nan_policy!r}")
        step = self._link.state.global_step + 1
        for name, number in found.items():
            self._judge(step, name, 0.0 if number is None else number)
        self._looked_at |= found.keys()
        return all(number is None or math.isfinite(number) for number in found.values())

    def leave_out(self, name: str) -> None:
        """Has the present step's end not look at one of its values."""
        self._looked_at |= {name}

    def settle(self) -> None:
        """At the end: waits for what is on its way, and looks at it."""
        waits = self._metrics.waits
        while self._on_their_way:
            step, name, handle = self._on_their_way.popleft()
            number = waits.fill({name: handle}, "the end of training")[name]
            if number is not None:
                self._judge(step, name, number)

    def catch_up(self) -> None:
        """Looks at what has arrived, and waits for nothing."""
        while self._on_their_way:
            step, name, handle = self._on_their_way[0]
            if not settled(handle):
                return
            self._on_their_way.popleft()
            try:
                number = handle.result()
            except Exception:  # Lost with the device, which says so itself.
                continue
            self._judge(step, name, number)

    def _look_later(self, loss: Number | None, grad_norm: Number | None) -> None:
        if not self.defers and any(_is_on_device(value) for value in (loss, grad_norm)):
            self.defers = True
            loss, grad_norm = self.start(loss, grad_norm)
        looked_at, self._looked_at = self._looked_at, frozenset()
        step = self._link.state.global_step
        for name, value in (("loss", loss), ("grad_norm", grad_norm)):
            if value is None or name in looked_at:
                continue
            if isinstance(value, DeferredScalar):
                self._on_their_way.append((step, name, value))
            else:
                self._judge(step, name, read(value))
        self.catch_up()

    def _judge(self, step: int, name: str, number: float) -> None:
        if math.isfinite(number):
            self._in_a_row.pop(name, None)
            return
        self.counts[name] += 1
        in_a_row = self._in_a_row[name] = self._in_a_row.get(name, 0) + 1
        policy = self._args.nan_policy
        what = f"the {WORDS[name]} of step {step} is {number}"
        if self.counts[name] == 1:
            log.warning(f"{what} (nan_policy={policy!r}); events non_finite tell of further ones")
        # A run that is broken for good would say so at each of its steps.
        if in_a_row & (in_a_row - 1) == 0:
            values = {
                "value": name,
                "number": number,
                "at_step": step,
                "count": self.counts[name],
                "in_a_row": in_a_row,
            }
            self._link.emit("non_finite", values)
        if policy != "report":
            self._link.votes.post(Vote("stop", voter=VOTER, reason=what, step=step))


def _is_on_device(value: object) -> bool:
    return isinstance(value, Tensor) and not value.is_cpu


def _on_host(value: Number | None) -> float | None:
    """A number that is here, 0 for none; None for one that is not."""
    if value is None:
        return 0.0
    if isinstance(value, Tensor):
        return float(number_of(value)) if value.is_cpu else None
    return None if isinstance(value, DeferredScalar) else float(value)
