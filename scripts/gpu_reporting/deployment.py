"""Sections: evaluation of the short training's supernet, and export of its largest subnet with parity of devices."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.gpu_reporting.commands import CommandFailed, checked
from scripts.gpu_reporting.context import Context
from supernet.compute.precision import tf32


def evaluation(context: Context) -> dict[str, Any]:
    """Evaluate the largest and, on a GPU, the smallest subnet with ``supernet.evaluate``."""
    figures: dict[str, Any] = {}
    for arch in ("largest", "smallest")[: 2 if context.is_gpu else 1]:
        arguments = [
            f"weights={_trained(context)}",
            f"arch={arch}",
            f"device={context.device}",
            f"num_calibration_images={min(128, context.effort.train_images)}",
            f"runs={context.work}",
            f"name={arch}",
        ]
        finished = checked("supernet.evaluate", arguments, context.work / f"evaluate_{arch}.log", _limit(context))
        summary = json.loads((context.work / "evaluate" / arch / "summary.json").read_text("utf-8"))
        figures[arch] = {
            "images_per_second": summary["images_per_second"],
            "num_images": summary["num_images"],
            "seconds": summary["seconds"],
            "process_seconds": round(finished.seconds, 1),
            "AP": summary["metrics"]["AP"],
        }
        context.keep({"subnets": figures})
    return {"subnets": figures}


def export(context: Context) -> dict[str, Any]:
    """Export the largest subnet on the device, and compare its maps there with those on the CPU."""
    from subnet_export.model import load_model  # needs packages that the other sections do without
    from supernet.checkpoints.supernet_file import load_supernet

    trained, folder = _trained(context), context.work / "exported"
    space = load_supernet(trained).supernet.space
    arch_file = context.work / "largest.json"
    space.largest().save(arch_file)
    arguments = [
        *("--supernet", str(trained), "--arch", str(arch_file), "--output", str(folder)),
        *("--device", str(context.device), "--format", context.effort.export_formats, "--check-images", "4"),
        *("--num-images", str(min(16, context.effort.test_images))),
        *("--calibration-images", str(min(128, context.effort.train_images)), "--runs", str(context.work)),
    ]
    finished = checked("subnet_export", arguments, context.work / "export.log", _limit(context))
    figures: dict[str, Any] = {
        "formats": context.effort.export_formats,
        "process_seconds": round(finished.seconds, 1),
        "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }
    context.keep(figures)
    on_cpu, on_device = load_model(folder, "cpu").network, load_model(folder, context.device).network
    size = on_cpu.arch.resolution
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = on_cpu(images)
        for name, allowed in (("fp32", False), ("tf32", True)):
            with tf32(allowed):
                maps = on_device(images.to(context.device))
            figures[f"difference_{name}"] = [difference(a, b.cpu()) for a, b in zip(expected, maps, strict=True)]
    return figures


def difference(expected: Tensor, other: Tensor) -> dict[str, float]:
    """Return the largest difference of two maps and its root mean square, also in the expected map's deviations."""
    error, deviation = (expected - other).double(), float(expected.double().std())
    rms = float(error.square().mean().sqrt())
    return {"largest": float(error.abs().max()), "rms": rms, "rms_in_deviations": rms / max(deviation, 1e-30)}


def _trained(context: Context) -> Path:
    if context.trained is None:
        raise CommandFailed("there is no trained supernet: the section training or resume must run before this one")
    return context.trained


def _limit(context: Context) -> float:
    return max(30.0, context.seconds_left())
