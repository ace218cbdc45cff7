"""What the Trainer counts: floating point operations, input tokens, samples; no waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...bus.diagnostics import get_logger
from ...schemas import TrainerState
from ..metric_buffer import DeferredScalar, MetricBuffer

log = get_logger()


class Counts:
    """Counts what one run is fed, and writes it into the state where the reference does.

    Args:
        model: what is trained.
        state: what the counts go into, at logs, checkpoints and the end.
        tokens: no, all, or non_padding.
        pad_token_id: what padding is where there is no attention mask.
    """

    def __init__(
        self, model: nn.Module, state: TrainerState, tokens: str, pad_token_id: int | None
    ) -> None:
        self._model = model
        self._state = state
        self._name = str(getattr(model, "main_input_name", "input_ids"))
        self._flos_a_token = _flos_a_token(model)
        self._flos = 0.0
        self._tokens = tokens
        self._pad_token_id = pad_token_id
        self._seen: Tensor | None = None
        """Tokens that were counted on the device since the last `store`."""
        self._known = 0
        """Of these, those that the state has already."""
        self._on_their_way: deque[DeferredScalar] = deque()
        self._named = False
        self.tokens_before = state.num_input_tokens_seen
        """Tokens that earlier attempts had seen."""

    @property
    def active(self) -> bool:
        """Whether there is anything to count."""
        return bool(self._flos_a_token) or self._tokens != "no"

    def add(self, inputs: Any) -> None:
        """Counts a micro-batch."""
        main = inputs.get(self._name) if isinstance(inputs, Mapping) else None
        if isinstance(main, Tensor):
            self._flos += float(self._flos_a_token * main.numel())
            if self._tokens != "no":
                self._add_tokens(self._tokens_of(inputs, main))
        elif self._tokens != "no" and not self._named:
            self._named = True
            log.warning(
                f"include_num_input_tokens_seen: the batches have no {self._name!r}, so no tokens "
                "are counted; set main_input_name on the model."
            )

    @property
    def on_device(self) -> bool:
        """Whether there are tokens that the state does not have yet."""
        return self._seen is not None

    def store(self, metrics: MetricBuffer) -> None:
        """Writes the counts into the state; waits for the device where padding was counted."""
        self.store_known()
        if self._seen is not None:
            (seen,), _ = metrics.push([self._seen])
            self._note(metrics.waits.fill({"tokens": seen})["tokens"])
            self._seen, self._known = None, 0
            self._on_their_way.clear()

    def store_known(self) -> None:
        """Writes into the state what has been counted, as far as the host knows."""
        if self._flos:
            self._state.total_flos += self._flos
            self._flos = 0.0
        while self._on_their_way and self._on_their_way[0].known:
            self._note(self._on_their_way.popleft().result())

    def tokens(self, metrics: MetricBuffer) -> float | DeferredScalar:
        """Tokens seen so far, which may be on their way from the device."""
        before = self._state.num_input_tokens_seen - self._known
        (seen,), _ = metrics.push([self._seen])
        if not isinstance(seen, DeferredScalar):
            return before + int(seen or 0)
        self._on_their_way.append(seen)
        return seen.then(lambda number: before + int(number))

    def _note(self, seen: float | None) -> None:
        """Takes the count of the device at some time; None where the device was lost."""
        if seen is not None:
            self._state.num_input_tokens_seen += int(seen) - self._known
            self._known = int(seen)

    def _add_tokens(self, count: Tensor | int) -> None:
        if isinstance(count, int) or count.is_cpu:
            self._state.num_input_tokens_seen += int(count)
        else:
            self._seen = count if self._seen is None else self._seen + count

    def _tokens_of(self, inputs: Mapping[str, Any], main: Tensor) -> Tensor | int:
        if self._tokens == "non_padding":
            if "attention_mask" in inputs:
                return inputs["attention_mask"].sum()  # type: ignore[no-any-return]
            if self._pad_token_id is not None:
                return (main != self._pad_token_id).sum()
            if not self._named:
                self._named = True
                log.warning(
                    "include_num_input_tokens_seen='non_padding': there is no attention_mask and "
                    "no pad_token_id, so all tokens are counted."
                )
        return main.numel()


def floating_point_ops(model: nn.Module, inputs: Mapping[str, Any]) -> int:
    """Operations of a forward and backward pass: 6 a token and parameter, embeddings left out.

    0 for models that do not tell their `num_parameters`, and inputs without the main one.
    """
    main = inputs.get(str(getattr(model, "main_input_name", "input_ids")))
    return _flos_a_token(model) * main.numel() if isinstance(main, torch.Tensor) else 0


def _flos_a_token(model: nn.Module) -> int:
    count = getattr(model, "num_parameters", None)
    if not callable(count):
        return 0
    try:
        return 6 * int(count(exclude_embeddings=True))
    except TypeError:  # A method of that name, but not the one of pretrained models.
        return 0
