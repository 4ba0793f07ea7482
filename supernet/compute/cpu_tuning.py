"""Process settings that speed up training and evaluation on a CPU."""

import ctypes
import os

KERNEL_CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
ALLOCATOR_SETTINGS = frozenset({"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"})
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # parameters of glibc's mallopt
_LARGEST_KEPT_BLOCK = 32 << 20  # bytes; the maximum of glibc
_KEPT_MEMORY = 1 << 30  # bytes


def prefer_throughput(is_training: bool = False) -> None:
    """Keep oneDNN kernels and freed memory between steps. Existing environment variables win.

    By default oneDNN caches 1,024 kernels, fewer than the different layers of sampled subnets, so that it compiles in
    every step; and glibc returns the memory of large tensors to the system, which clears pages for the next ones. Up to
    1 GiB of freed memory is kept, except tensors above 32 MiB; other C libraries are left alone. Where this is called
    before PyTorch's first tensor, Linux gives tensors huge pages, of which it has to clear fewer.
    ``scripts/benchmarks/cpu_tuning.py`` measures the gain.

    Args:
        is_training: Whether this process trains: without huge pages then, because a step takes many tensors above
            32 MiB, for which the system first has to make room for such pages.
    """
    os.environ.setdefault(KERNEL_CACHE, "16384")  # read at the first convolution
    if not is_training:
        os.environ.setdefault(HUGE_PAGES, "1")  # read at the first tensor
    if os.name != "posix" or ALLOCATOR_SETTINGS & set(os.environ):
        return
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is not None:
        change(_MMAP_THRESHOLD, _LARGEST_KEPT_BLOCK)
        change(_TRIM_THRESHOLD, _KEPT_MEMORY)
