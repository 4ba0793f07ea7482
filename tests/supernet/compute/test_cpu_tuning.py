"""Settings of the process for training on a CPU: what they change, and whose word counts more."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from supernet.compute.cpu_tuning import ALLOCATOR_SETTINGS, KERNEL_CACHE
from supernet.training import trainer
from tests.supernet.compute.test_precision import trained

ROOT = Path(__file__).parents[3]
TOLD = """
import json, os, resource
from supernet.compute.cpu_tuning import KERNEL_CACHE, prefer_throughput
prefer_throughput()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * (16 << 20) for _ in range(8)]
    del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(json.dumps([os.environ[KERNEL_CACHE], faults[-1]]))
"""
NUM_PAGES = 8 * (16 << 20) // 4096


def settings_and_faults(given: dict[str, str]) -> tuple[str, int]:
    """Capacity of the kernel cache, and pages fetched to fill 128 MiB that were used and freed before."""
    kept = {name: value for name, value in os.environ.items() if name not in ALLOCATOR_SETTINGS | {KERNEL_CACHE}}
    command = [sys.executable, "-c", TOLD]
    ended = subprocess.run(command, cwd=ROOT, env=kept | given, capture_output=True, text=True, timeout=60, check=True)
    capacity, faults = json.loads(ended.stdout)
    return capacity, faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told so")
def test_freed_memory_is_used_again_unless_the_environment_sets_the_allocator() -> None:
    assert settings_and_faults({})[1] < NUM_PAGES / 100
    for own in ({"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}):
        assert settings_and_faults(own)[1] > NUM_PAGES / 2


def test_the_kernel_cache_is_enlarged_unless_the_environment_sets_it() -> None:
    assert settings_and_faults({})[0] == "16384"
    assert settings_and_faults({KERNEL_CACHE: "7"})[0] == "7"


def test_training_on_a_cpu_prefers_throughput() -> None:
    with mock.patch.object(trainer, "prefer_throughput") as called:
        trained("float32")
    called.assert_called_once_with()
