"""Writes the results of the study ``python -m scripts.studies.weight_sharing``: tables, figures and an image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.studies.sharing_report import ComparedArch, Scores, agreements, draw, markdown, table
from scripts.studies.sharing_runs import STRATEGIES, Part, Study
from search.cost import arch_costs
from supernet.arch import Arch
from supernet.compute.machine import machine, versions
from supernet.io import files
from supernet.training.phases import ScheduledPhase

NAME = "study_sharing"


def write_results(study: Study, seeds: Sequence[int], folder: Path, command: str) -> None:
    """Write ``study_sharing.md``, ``.json`` and ``.png`` with all scores so far to ``folder``."""
    numbers = range(len(study.archs))
    alone = [[study.ap(Part("alone", i, seed), i) for i in numbers] for seed in seeds]
    shared: dict[str, Scores] = {
        kind: [[study.ap(Part(kind, None, seed), i) for i in numbers] for seed in seeds] for kind in STRATEGIES
    }
    costs = [arch_costs(arch, study.keypoints.num) for arch in study.archs]
    options = ("batch_size", "dataset", "evaluation", "num_calibration_images")
    workload = {
        **study.to_dict()["plan"],
        "seeds": list(seeds),
        "threads": study.num_threads,
        **{key: study.base[key] for key in options},
    }
    figures = {
        "command": command,
        "machine": machine(),
        "versions": versions(),
        "workload": workload,
        "phases": {kind: _phases(study, kind) for kind in ("alone", *STRATEGIES)},
        "archs": [
            {
                "description": description(arch),
                "costs": cost,
                "metrics": {
                    kind: [study.score(_part(kind, i, seed), i) for seed in seeds] for kind in ("alone", *STRATEGIES)
                },
                "arch": arch.to_dict(),
            }
            for i, (arch, cost) in enumerate(zip(study.archs, costs, strict=True))
        ],
        "agreement": agreements(alone, shared),
        "train_seconds": {part.file_name: study.train_seconds(part) for part in study.parts(seeds)},
    }
    files.write_json(folder / f"{NAME}.json", figures)
    drawn = draw(folder / f"{NAME}.png", alone, shared)
    archs = [ComparedArch(description(arch), cost["macs"]) for arch, cost in zip(study.archs, costs, strict=True)]
    below = f"![AP as a subnet of a supernet over AP trained alone, a point for each arch]({NAME}.png)" if drawn else ""
    files.write_text(folder / f"{NAME}.md", markdown(archs, alone, shared, _heading(study, figures), below))


def description(arch: Arch) -> str:
    """Return a line that describes ``arch``, with the expand ratio and kernel size of each stage."""
    blocks = " ".join(f"{stage.expand_ratios[0]}x{stage.kernel_sizes[0]}" for stage in arch.stages)
    return f"{arch.describe()}, expansion x kernel {blocks}"


def _part(kind: str, arch: int, seed: int) -> Part:
    return Part(kind, arch if kind == "alone" else None, seed)


def _phases(study: Study, kind: str) -> list[dict[str, Any]]:
    """Return the phases of a training of ``kind``; for "alone", with the resolutions of the largest arch."""
    part = _part(kind, len(study.archs) - 1, 0)
    return [_phase(scheduled) for scheduled in study.scheduled(part)]


def _phase(scheduled: ScheduledPhase) -> dict[str, Any]:
    phase = scheduled.phase
    return {
        "name": phase.name,
        "steps": scheduled.stop - scheduled.start,
        "subnets": list(phase.subnets),
        "elastic": list(phase.elastic),
        "learning_rate": phase.learning_rate,
        "teacher": phase.teacher,
        "resolutions": list(scheduled.resolutions),
    }


def _heading(study: Study, figures: dict[str, Any]) -> list[str]:
    """Return the paragraphs above the tables: how the figures were measured."""
    plan, base = study.plan, study.base
    version_list = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    seeds = ", ".join(map(str, figures["workload"]["seeds"]))
    paragraphs = [
        f"`{figures['command']}`",
        f"Measured on {figures['machine']['processor']} with {figures['workload']['threads']} threads; {version_list}.",
        f"Every training has {plan.steps} steps of {base['batch_size']} images, the same images in the same order; "
        f"seeds: {seeds}. Every score is COCO keypoint AP with flip test on {base['dataset']['test']['num_images']} "
        f"test images, of a network calibrated on {base['num_calibration_images']} training images. A gap is AP alone "
        "minus AP shared; it is positive if sharing costs AP. An arch alone is trained with the phases in which "
        "progressive shrinking trains its largest subnet, stretched to all steps.",
    ]
    rows = []
    for kind, phases in figures["phases"].items():
        for phase in phases:
            subnets = "itself" if kind == "alone" else ", ".join(phase["subnets"])
            resolutions = ", ".join(map(str, phase["resolutions"]))
            inputs = f"{resolutions} px (the largest arch)" if kind == "alone" else f"{resolutions} px"
            rows.append([kind, phase["name"], str(phase["steps"]), inputs, subnets, f"{phase['learning_rate']:g}"])
    return [*paragraphs, table(["training", "phase", "steps", "inputs", "subnets a step", "peak rate"], rows)]
