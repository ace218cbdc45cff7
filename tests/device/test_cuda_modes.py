"""What torch keeps of CUDA by thread holds in a hosted training. Run by `make test-device`."""

from __future__ import annotations

import anyio
import torch

from stepbus import run_async


def test_the_current_device_and_stream_hold_in_the_thread() -> None:
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def here() -> tuple[int, int, bool, torch.dtype]:
        current = torch.cuda.current_stream().cuda_stream
        enabled = torch.is_autocast_enabled("cuda")
        return torch.cuda.current_device(), current, enabled, torch.get_autocast_dtype("cuda")

    async def main() -> None:
        with torch.cuda.stream(stream), torch.autocast("cuda", torch.bfloat16):
            expected = here()
            assert await run_async(here) == expected
        assert expected[1:] == (stream.cuda_stream, True, torch.bfloat16)

    anyio.run(main)
