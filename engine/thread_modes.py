"""torch's modes that belong to a thread, carried over to another one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.overrides import _push_mode as _push_function_mode
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils._python_dispatch import _push_mode as _push_dispatch_mode

AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")


class ThreadModes:
    """What torch keeps by thread, as it stands where this is made.

    Gradients and inference mode, autocast by device, its dtype and its cache, the default device,
    function and dispatch modes, hooks on saved tensors, threads of the backward pass, and on CUDA,
    where it is in use, the current device and stream. The default dtype, the number of threads and
    the deterministic algorithms belong to the process, so every thread has them.
    """

    def __init__(self) -> None:
        self._grad = torch.is_grad_enabled()
        self._inference = torch.is_inference_mode_enabled()
        self._autocast = [_autocast_of(device) for device in AUTOCAST_DEVICES]
        self._autocast_cache = torch.is_autocast_cache_enabled()
        self._multithreading: bool = torch._C._is_multithreading_enabled()
        self._function_modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        self._dispatch_modes = _get_current_dispatch_mode_stack()
        self._hooks: Any = torch._C._autograd._top_saved_tensors_default_hooks(True)
        self._stream: Any = None
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            self._stream = torch.cuda.current_stream()

    def call(self, function: Callable[[], Any]) -> Any:
        """Calls a function under these modes; in a thread of its own, which ends with the call."""
        with contextlib.ExitStack() as stack:
            if self._stream is not None:
                # Its device becomes the current one.
                stack.enter_context(torch.cuda.stream(self._stream))
            if self._inference:
                stack.enter_context(torch.inference_mode())
            torch.set_grad_enabled(self._grad)
            torch.autograd.set_multithreading_enabled(self._multithreading)
            for device, enabled, dtype in self._autocast:
                if dtype is not None:
                    torch.set_autocast_enabled(device, enabled)
                    torch.set_autocast_dtype(device, dtype)
            torch.set_autocast_cache_enabled(self._autocast_cache)
            if self._hooks is not None:
                torch._C._autograd._push_saved_tensors_default_hooks(*self._hooks)
            # Pushed, not entered: entering one may change what all threads share.
            for mode in self._function_modes:
                if isinstance(mode, DeviceContext):
                    mode = DeviceContext(mode.device)
                _push_function_mode(mode)  # type: ignore[no-untyped-call]
            for mode in self._dispatch_modes:
                _push_dispatch_mode(mode)
            return function()


def _autocast_of(device: str) -> tuple[str, bool, torch.dtype | None]:
    try:
        return device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    except RuntimeError:  # A build of torch that does not know the device.
        return device, False, None
