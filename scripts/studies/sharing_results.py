"""The results of a study of weight sharing as files: tables, all figures, and an image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.studies.sharing_report import Compared, Scores, agreements, draw, markdown, table
from scripts.studies.sharing_runs import STRATEGIES, Part, Study
from search.cost import arch_costs
from supernet.arch import Arch
from supernet.compute.machine import machine, versions
from supernet.io import files
from supernet.training.phases import ScheduledPhase

NAME = "study_sharing"


def write_results(study: Study, seeds: Sequence[int], folder: Path, command: str) -> None:
    """Write ``study_sharing.md``, ``.json`` and ``.png`` of what is there so far into ``folder``."""
    numbers = range(len(study.archs))
    alone = [[study.ap(Part("alone", i, seed), i) for i in numbers] for seed in seeds]
    shared: dict[str, Scores] = {
        kind: [[study.ap(Part(kind, None, seed), i) for i in numbers] for seed in seeds] for kind in STRATEGIES
    }
    costs = [arch_costs(arch, study.keypoints.num) for arch in study.archs]
    kept = ("batch_size", "dataset", "evaluation", "num_calibration_images")
    workload = {
        **study.to_dict()["plan"],
        "seeds": list(seeds),
        "threads": study.num_threads,
        **{key: study.base[key] for key in kept},
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
    archs = [Compared(description(arch), cost["macs"]) for arch, cost in zip(study.archs, costs, strict=True)]
    below = f"![AP cut from a supernet over AP trained alone, one point an arch]({NAME}.png)" if drawn else ""
    files.write_text(folder / f"{NAME}.md", markdown(archs, alone, shared, _heading(study, figures), below))


def description(arch: Arch) -> str:
    """Return one line for people: what :meth:`Arch.describe` says, and each stage's expand ratio and kernel size."""
    blocks = " ".join(f"{stage.expand_ratios[0]}x{stage.kernel_sizes[0]}" for stage in arch.stages)
    return f"{arch.describe()}, expansion x kernel {blocks}"


def _part(kind: str, arch: int, seed: int) -> Part:
    return Part(kind, arch if kind == "alone" else None, seed)


def _phases(study: Study, kind: str) -> list[dict[str, Any]]:
    """Return what a training of ``kind`` is made of; inputs of the largest arch, where they differ by arch."""
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
    """Return what the figures are of, as paragraphs."""
    plan, base = study.plan, study.base
    versions_told = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    seeds = ", ".join(map(str, figures["workload"]["seeds"]))
    told = [
        f"`{figures['command']}`",
        f"On {figures['machine']['processor']}, number of threads {figures['workload']['threads']}; {versions_told}.",
        f"Every training takes {plan.steps} steps of {base['batch_size']} images, the same ones in the same order, "
        f"from seed {seeds}. Every score is COCO's keypoint AP on {base['dataset']['test']['num_images']} test "
        "images, with flip test, of a network calibrated on "
        f"{base['num_calibration_images']} training images. A gap is AP alone less AP shared: above 0, sharing costs "
        "AP. Alone, an arch gets the phases in which progressive shrinking trains its largest subnet, stretched to all "
        "steps.",
    ]
    rows = []
    for kind, phases in figures["phases"].items():
        for phase in phases:
            subnets = "itself" if kind == "alone" else ", ".join(phase["subnets"])
            resolutions = ", ".join(map(str, phase["resolutions"]))
            inputs = f"{resolutions} px (the largest arch)" if kind == "alone" else f"{resolutions} px"
            rows.append([kind, phase["name"], str(phase["steps"]), inputs, subnets, f"{phase['learning_rate']:g}"])
    return [*told, table(["training", "phase", "steps", "inputs", "subnets a step", "peak rate"], rows)]
