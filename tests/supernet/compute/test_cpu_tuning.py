"""Process settings for training on a CPU: their effect, and that environment variables win."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from supernet.compute.cpu_tuning import ALLOCATOR_SETTINGS, HUGE_PAGES, KERNEL_CACHE
from supernet.errors import UserError
from supernet.training.launch import start_or_resume
from tests.supernet.test_train import configuration

ROOT = Path(__file__).parents[3]
SCRIPT = """
import json, os, resource, sys
from supernet.compute.cpu_tuning import HUGE_PAGES, KERNEL_CACHE, prefer_throughput
prefer_throughput(is_training=json.loads(sys.argv[1]))
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * (16 << 20) for _ in range(8)]
    del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(json.dumps([os.environ[KERNEL_CACHE], os.environ.get(HUGE_PAGES), faults[-1]]))
"""
NUM_PAGES = 8 * (16 << 20) // 4096


def settings_and_page_faults(variables: dict[str, str], is_training: bool = False) -> tuple[str, str | None, int]:
    """Capacity of the kernel cache, huge pages, and page faults while filling 128 MiB that were used and freed."""
    own = ALLOCATOR_SETTINGS | {KERNEL_CACHE, HUGE_PAGES}
    others = {name: value for name, value in os.environ.items() if name not in own}
    command, env = [sys.executable, "-c", SCRIPT, json.dumps(is_training)], others | variables
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=250, check=True)
    capacity, huge_pages, faults = json.loads(result.stdout)
    return capacity, huge_pages, faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again_unless_the_environment_sets_the_allocator() -> None:
    assert settings_and_page_faults({})[2] < NUM_PAGES / 100
    for own in ({"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}):
        assert settings_and_page_faults(own)[2] > NUM_PAGES / 2


def test_an_evaluation_takes_huge_pages_and_a_training_none() -> None:
    assert settings_and_page_faults({})[1] == "1"
    assert settings_and_page_faults({}, is_training=True)[1] is None
    assert settings_and_page_faults({HUGE_PAGES: "1"}, is_training=True)[1] == "1"


def test_the_kernel_cache_is_enlarged_unless_the_environment_sets_it() -> None:
    assert settings_and_page_faults({})[0] == "16384"
    assert settings_and_page_faults({KERNEL_CACHE: "7"})[0] == "7"


def test_training_on_a_cpu_prefers_throughput(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(is_training: bool = False) -> None:
        assert is_training
        raise UserError("prefers throughput")

    monkeypatch.setattr("supernet.training.assembly.prefer_throughput", stop)
    with pytest.raises(UserError, match="prefers throughput"):
        start_or_resume(configuration(tmp_path, device="cpu"), [])
