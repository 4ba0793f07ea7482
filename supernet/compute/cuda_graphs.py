"""Records work on a GPU once and then repeats it with a single launch (CUDA graphs).

Launching a kernel from Python costs the host some 20 to 40 microseconds, more than many kernels of a small network
take; a recorded sequence costs about one launch.
"""

from collections.abc import Callable
from typing import Any

import torch

Recorder = Callable[[Callable[[], None]], Callable[[], object]]
"""Runs a function at least once, and returns a function that repeats its work on the same memory."""
_WARM_UP = 2
"""Runs before a recording, in which libraries choose their kernels and allocate."""


class CudaGraphs:
    """Records functions, which then share one area of memory for their intermediate results.

    A function may only enqueue work: it must not wait for the device nor decide by what is computed there. What it
    reads, and all results that are needed later, must lie in tensors that were made before. Recorded functions are
    repeated one after another, on one stream.

    Args:
        device: A GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._memory: Any = None

    def __call__(self, run: Callable[[], None]) -> Callable[[], object]:
        """Run ``run`` several times, record it, and return the function that repeats it."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                run()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Only this thread is forbidden to wait or to allocate outside of the recording: others load images meanwhile.
        with torch.cuda.graph(graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"):
            run()
        self._memory = graph.pool()
        return graph.replay
