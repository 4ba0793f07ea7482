"""Writes the results of the study ``python -m scripts.studies.weight_sharing``: tables, figures and an image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.studies.sharing_plan import ALONE, Part
from scripts.studies.sharing_report import ComparedArch, agreements, draw, markdown, table
from scripts.studies.sharing_runs import Study
from search.cost import arch_costs
from supernet.arch import Arch
from supernet.compute.machine import machine, versions
from supernet.io import files
from supernet.training.phases import ScheduledPhase

NAME = "study_sharing"


def write_results(study: Study, seeds: Sequence[int], folder: Path, command: str) -> None:
    """Write ``study_sharing.md``, ``.json`` and ``.png`` with all scores so far to ``folder``."""
    numbers = range(len(study.archs))
    methods = _methods(study, seeds)
    aps = {name: [[study.ap(parts[i], i) for i in numbers] for parts in by_seed] for name, by_seed in methods.items()}
    alone, shared = aps[ALONE], {name: scores for name, scores in aps.items() if name != ALONE}
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
        "phases": {name: _phases(study, by_seed[0][-1]) for name, by_seed in methods.items()},
        "mean_macs_alone_per_batch_image": study.mean_macs,
        "prices": {name: _price(study, by_seed[0]) for name, by_seed in methods.items()},
        "archs": [
            {
                "description": description(arch),
                "costs": cost,
                "metrics": {name: [study.score(parts[i], i) for parts in by_seed] for name, by_seed in methods.items()},
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


def _methods(study: Study, seeds: Sequence[int]) -> dict[str, list[list[Part]]]:
    """Return by name of a method, seed and arch the part that scores the arch."""
    methods: dict[str, list[list[Part]]] = {}
    for seed in seeds:
        by_arch: dict[str, dict[int, Part]] = {}
        for part in study.parts([seed]):
            name = part.supernet.name + ", fine-tuned" if part.is_tuning else part.name.partition(":")[0]
            by_arch.setdefault(name, {}).update(dict.fromkeys(study.arch_numbers(part), part))
        for name in sorted(by_arch, key=lambda name: name != ALONE):
            methods.setdefault(name, []).append([by_arch[name][i] for i in range(len(study.archs))])
    return methods


def _price(study: Study, parts: Sequence[Part]) -> float:
    """Return the multiply-adds of all trainings that a method needs, in those of the mean arch alone."""
    needed = set(parts) | {part.supernet for part in parts if part.is_tuning}
    return sum(map(study.macs, needed)) / study.mean_macs


def _phases(study: Study, part: Part) -> list[dict[str, Any]]:
    """Return the phases of the training of ``part``; for a training alone, that of the largest arch."""
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
        f"Archs alone have {plan.steps} steps of {base['batch_size']} images; the steps of a supernet follow from its "
        "price, its multiply-adds in those of the mean arch alone (a subnet's passes count three times, a teacher's "
        f"once). Seeds: {seeds}. Every score is COCO keypoint AP, "
        f"{'with' if base['evaluation']['flip_test'] else 'without'} flip test, of a network calibrated on "
        f"{base['num_calibration_images']} training images. A gap is AP alone minus AP shared; it is positive if "
        "sharing costs AP. An arch alone is trained with the recipe's phases in which a supernet trains its largest "
        "subnet alone, stretched to all steps, or without any with all of its phases.",
    ]
    rows = []
    for method, phases in figures["phases"].items():
        for phase in phases:
            resolutions = f"{', '.join(map(str, phase['resolutions']))} px"
            rows.append(
                [
                    method,
                    f"{figures['prices'][method]:.1f}",
                    phase["name"],
                    str(phase["steps"]),
                    resolutions,
                    ", ".join(phase["subnets"]),
                    f"{phase['learning_rate']:g}",
                ]
            )
    names = ["training", "price of all", "phase", "steps", "inputs (of the largest)", "subnets a step", "peak rate"]
    return [*paragraphs, table(names, rows)]
