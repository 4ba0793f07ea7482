"""Process settings for training on a CPU: their effect, and that environment variables win."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from supernet.compute.cpu_tuning import ALLOCATOR_SETTINGS, KERNEL_CACHE
from supernet.errors import UserError
from supernet.training.launch import start_or_resume
from tests.supernet.test_train import configuration

ROOT = Path(__file__).parents[3]
SCRIPT = """
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


def cache_and_page_faults(variables: dict[str, str]) -> tuple[str, int]:
    """Capacity of the kernel cache, and page faults while filling 128 MiB that were used and freed before."""
    others = {name: value for name, value in os.environ.items() if name not in ALLOCATOR_SETTINGS | {KERNEL_CACHE}}
    command, env = [sys.executable, "-c", SCRIPT], others | variables
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=250, check=True)
    capacity, faults = json.loads(result.stdout)
    return capacity, faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again_unless_the_environment_sets_the_allocator() -> None:
    assert cache_and_page_faults({})[1] < NUM_PAGES / 100
    for own in ({"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}):
        assert cache_and_page_faults(own)[1] > NUM_PAGES / 2


def test_the_kernel_cache_is_enlarged_unless_the_environment_sets_it() -> None:
    assert cache_and_page_faults({})[0] == "16384"
    assert cache_and_page_faults({KERNEL_CACHE: "7"})[0] == "7"


def test_training_on_a_cpu_prefers_throughput(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise UserError("prefers throughput")

    monkeypatch.setattr("supernet.training.assembly.prefer_throughput", stop)
    with pytest.raises(UserError, match="prefers throughput"):
        start_or_resume(configuration(tmp_path, device="cpu"), [])
