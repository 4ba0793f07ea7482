"""Section: versions and machine."""

import os
import platform
import subprocess
from typing import Any

import torch

from scripts.gpu_reporting.context import Context, shared_memory
from supernet.compute import machine as computer
from supernet.version import VERSION

NVIDIA_SMI = ("nvidia-smi", "--format=csv,noheader,nounits")


def machine(context: Context) -> dict[str, Any]:
    """Return the machine, the GPU, and every version that decides what is computed and how fast."""
    figures: dict[str, Any] = {
        **computer.machine(),
        "code": VERSION,
        **computer.versions(),
        "implementation": platform.python_implementation(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "shared_memory_mib": shared_memory() // 2**20,
        "torch_threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "tf32_default": {
            "products": torch.backends.cuda.matmul.allow_tf32,
            "convolutions": torch.backends.cudnn.allow_tf32,
        },
    }
    if context.is_gpu:
        gpu = torch.cuda.get_device_properties(context.device)
        figures |= {
            "gpu": gpu.name,
            "gpu_memory_gib": round(gpu.total_memory / 2**30, 1),
            "multiprocessors": gpu.multi_processor_count,
            "capability": f"{gpu.major}.{gpu.minor}",
            "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
            "driver": nvidia_smi("driver_version,clocks.sm,clocks.mem,power.limit", uuid_of(context.device)),
        }
    return figures


def nvidia_smi(query: str, uuid: str) -> str | None:
    """Return what ``nvidia-smi`` answers to ``query`` about a GPU; None without it."""
    try:
        done = subprocess.run(
            [*NVIDIA_SMI, f"--query-gpu=uuid,{query}"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(answers_about(uuid, done.stdout)), None)


def uuid_of(gpu: torch.device) -> str:
    """Return the id of a GPU, which ``nvidia-smi`` knows it by whatever its number is; empty if PyTorch has none."""
    return str(getattr(torch.cuda.get_device_properties(gpu), "uuid", ""))


def answers_about(uuid: str, output: str) -> list[str]:
    """Return the lines of ``nvidia-smi``, which begin with an id, about one GPU; about all if none has its id."""
    lines = [
        (identity, answer.strip()) for identity, _, answer in (line.partition(",") for line in output.splitlines())
    ]
    own = [answer for identity, answer in lines if uuid and uuid in identity]
    return own or [answer for _, answer in lines]
