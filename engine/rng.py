"""The random number generators a run draws from: seeding, capturing, restoring them."""

from __future__ import annotations

import ctypes
import os
import random
import sys
from typing import Any

import torch

from ..schemas.errors import ArgumentError

_MAX_SEED = 2**32 - 1
_MT19937_BYTES = 625 * 4  # 624 words and a position


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seeds Python's random, numpy and torch on every device.

    Args:
        seed: from 0 to 2**32 - 1, the range of numpy.
        deterministic: also make torch choose deterministic algorithms.

    Raises:
        ArgumentError: `seed` is out of that range.
    """
    if type(seed) is not int or not 0 <= seed <= _MAX_SEED:
        raise ArgumentError(f"seed must be a whole number from 0 to {_MAX_SEED}, got {seed!r}.")
    import numpy.random  # only here: capturing and restoring must not load it

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    if deterministic:
        torch.use_deterministic_algorithms(True)


def enable_full_determinism(seed: int, warn_only: bool = False) -> None:
    """Seeds everything and makes torch use deterministic algorithms only, at the cost of speed.

    Must be called before the first use of CUDA, which reads the environment variables set here.
    With `warn_only` an operation without such an algorithm warns instead of raising.
    """
    set_seed(seed)
    os.environ["CUDA_LAUNCH_BLOCKING"] = "1"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
    os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def capture_rng() -> dict[str, Any]:
    """The states of all generators, in values that a checkpoint can hold.

    An entry is None for what is not in use: numpy's global generator while it was never
    imported, CUDA before its first use, MPS on other machines. Nothing is loaded or started.
    """
    return _capture_others() | {"numpy": _capture_numpy()}


def restore_rng(state: dict[str, Any]) -> None:
    """Puts back what `capture_rng` returned; a device that is not here is left out."""
    if state["numpy"] is not None:
        _restore_numpy(state["numpy"])
    _restore_others(state)


class PreservedRng:
    """A context: whatever is drawn inside, the generators go on afterwards as if it were not.

    One object can be entered again and again, and nested; kept over many steps it remembers
    numpy's state, whose reading and writing are the dear part, until somebody draws from it.
    For the training thread only, as the generators themselves.
    """

    def __init__(self) -> None:
        self._entered: list[dict[str, Any]] = []
        self._numpy_state: dict[str, Any] | None = None
        self._numpy_bits: bytes | None = None

    def __enter__(self) -> None:
        self._entered.append(_capture_others() | {"numpy": self._capture_numpy()})

    def __exit__(self, *_: object) -> None:
        state = self._entered.pop()
        if state["numpy"] is not None and not self._is_known(state["numpy"]):
            _restore_numpy(state["numpy"])
        _restore_others(state)

    def _capture_numpy(self) -> dict[str, Any] | None:
        if self._numpy_state is None or not self._is_known(self._numpy_state):
            self._numpy_state = _capture_numpy()
            self._numpy_bits = _numpy_bits()
        return self._numpy_state

    def _is_known(self, state: dict[str, Any]) -> bool:
        """Whether numpy's generator is surely still in this state.

        A normal deviate kept for the next call is not among the bits, and taking it changes none
        of them; so with one kept nothing is sure. Without, one cannot come about unnoticed.
        """
        return (
            state is self._numpy_state
            and self._numpy_bits is not None
            and state["has_gauss"] == 0
            and self._numpy_bits == _numpy_bits()
        )


def preserved_rng() -> PreservedRng:
    """A context after which all generators go on as if nothing had been drawn inside."""
    return PreservedRng()


def _capture_others() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if _cuda_in_use() else None,
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _restore_others(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        for device in range(min(torch.cuda.device_count(), len(state["cuda"]))):
            torch.cuda.set_rng_state(state["cuda"][device], device)
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def _capture_numpy() -> dict[str, Any] | None:
    numpy_random = sys.modules.get("numpy.random")
    return numpy_random.get_state(legacy=False) if numpy_random else None


def _restore_numpy(state: dict[str, Any]) -> None:
    import numpy.random  # only here: nothing else may load it

    numpy.random.set_state(state)


def _numpy_bits() -> bytes | None:
    """The generator's own memory, 60 times cheaper than its state; only ever compared."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None:
        return None
    generator = numpy_random.get_bit_generator()
    if type(generator).__name__ != "MT19937":
        return None
    return ctypes.string_at(generator.ctypes.state_address, _MT19937_BYTES)
