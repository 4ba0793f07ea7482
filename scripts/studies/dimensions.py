"""Study what each dimension of a supernet is worth: AP of its largest subnet, less of one thing. Prints JSON.

Run as ``python -m scripts.studies.dimensions --dataset-root FOLDER`` for the shipped supernet and photographs.

All subnets are calibrated and scored on the same images:

- one dimension at its smallest choices, and kernels at every choice that leaves the others as they are;
- all widths at their largest and at their smallest, at every resolution: what buys more AP for the same multiply-adds.

Differences from the reference subnet have the interval that drawing the images again with replacement gives. Scores are
kept in ``--cache``, so a stopped study continues.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from scripts.benchmarks.timing import print_report
from search.candidate import Score
from search.cost import arch_costs
from search.runs.evaluator import Evaluator
from search.runs.problem import ProblemSettings, prepare
from supernet.arch import Arch
from supernet.cli.arguments import CommandLine, whole_number
from supernet.cli.console import STDERR, progress_bar, run_command
from supernet.cli.hydra_app import compose_config
from supernet.compute.distributed import SINGLE_PROCESS
from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.pose.metrics.image_matches import LEVEL, ImageMatches, interval, resamples
from supernet.space import DIMENSIONS, SearchSpace

METRICS = ("AP", "AP50", "APM", "APL")


@dataclass(frozen=True)
class Variant:
    """A subnet of the study.

    Attributes:
        name: What it is.
        arch: The subnet.
    """

    name: str
    arch: Arch


def reduced(space: SearchSpace, resolution: int) -> list[Variant]:
    """Return the largest subnet at a resolution, then those with one thing less.

    Raises:
        UserError: The space does not have the resolution.
    """
    if resolution not in space.resolutions:
        raise UserError(f"--resolution {resolution} is not in space {space.name}; choose among {space.resolutions}")
    largest = replace(space.largest(), resolution=resolution)
    archs = {}
    for dimension in DIMENSIONS:
        if dimension != "resolution":
            archs[f"smallest {dimension}"] = replace(space.restrict([dimension]).smallest(), resolution=resolution)
    narrow = space.restrict(["width"]).smallest()
    archs["smallest stage widths"] = replace(largest, stages=narrow.stages)
    archs["smallest head widths"] = replace(largest, deconv_widths=narrow.deconv_widths)
    for field in ("kernel_sizes", "expand_ratios"):
        for most in sorted({value for stage in space.stages for value in getattr(stage, field)})[1:-1]:
            archs[f"{field} of at most {most}"] = _at_most(space, largest, field, most)
    less = [Variant(name, arch) for name, arch in archs.items() if arch != largest]
    return [Variant("largest", largest), *less]


def _at_most(space: SearchSpace, arch: Arch, field: str, most: int) -> Arch:
    """Return ``arch`` with the largest choices up to ``most``; a stage without such a choice takes its smallest."""
    stages = []
    for stage, choices in zip(arch.stages, space.stages, strict=True):
        allowed = [value for value in getattr(choices, field) if value <= most] or [getattr(choices, field)[0]]
        changed: dict[str, Any] = {field: (allowed[-1],) * stage.depth}
        stages.append(replace(stage, **changed))
    return replace(arch, stages=tuple(stages))


def widths_and_resolutions(space: SearchSpace) -> list[Variant]:
    """Return the subnets with the largest and with the smallest widths, at every resolution."""
    both = {"largest widths": space.largest(), "smallest widths": space.restrict(["width"]).smallest()}
    return [
        Variant(f"{name}, {resolution} px", replace(arch, resolution=resolution))
        for name, arch in both.items()
        for resolution in space.resolutions
    ]


def rows_of(
    variants: Sequence[Variant], scores: Sequence[Score], matches: Sequence[ImageMatches], num_keypoints: int
) -> list[dict[str, Any]]:
    """Return a row of figures per variant; the first is the one that the others are compared with."""
    draws = resamples(matches[0].num_images, np.random.default_rng(0))
    reference = matches[0].average_precision(draws)
    rows = []
    for variant, score, match in zip(variants, scores, matches, strict=True):
        ends = interval(match.average_precision(draws) - reference)
        rows.append(
            {
                "name": variant.name,
                "macs": arch_costs(variant.arch, num_keypoints)["macs"],
                **{name: round(float(score.metrics[name]), 4) for name in METRICS if name in score.metrics},
                "difference": round(float(score.metrics["AP"] - scores[0].metrics["AP"]), 4),
                f"difference_{LEVEL:.0%}": ends and [round(end, 4) for end in ends],
                "arch": variant.arch.to_dict(),
            }
        )
    return rows


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Score all subnets and return the rows of both parts."""
    overrides = [f"supernet={options.supernet}", f"dataset={options.dataset}", "baseline=0", "num_images=null"]
    overrides += [f"dataset.root={options.dataset_root}"] if options.dataset_root else []
    overrides += [f"{name}={getattr(options, name)}" for name in ("threads", "cache") if getattr(options, name)]
    config = compose_config("evolve", overrides)
    settings = {field.name: config[field.name] for field in fields(ProblemSettings)}
    problem = prepare(from_mapping(ProblemSettings, settings, ""), SINGLE_PROCESS)
    space = problem.space
    resolution = options.resolution or space.resolutions[-1]
    evaluator = problem.test if options.split == "test" else problem.validation
    num_images = min(options.num_images or len(evaluator.images), len(evaluator.images))
    parts = {"dimensions": reduced(space, resolution), "width_and_resolution": widths_and_resolutions(space)}
    results: dict[str, Any] = {"space": space.name, "resolution": resolution, "num_images": num_images}
    with progress_bar(STDERR) as progress:
        task = progress.add_task("scoring", total=sum(map(len, parts.values())), note="")
        for part, variants in parts.items():
            archs, scores = [variant.arch for variant in variants], dict[int, Score]()
            for number, score in evaluator.as_they_come(archs, num_images):
                scores[number] = score
                progress.update(task, advance=1, note=f"{variants[number].name}: AP {score.metrics['AP']:.3f}")
            matches = [_matches(evaluator, arch, num_images) for arch in archs]
            in_order = [scores[number] for number in range(len(archs))]
            results[part] = rows_of(variants, in_order, matches, problem.trained.keypoints.num)
    return results


def _matches(evaluator: Evaluator, arch: Arch, num_images: int) -> ImageMatches:
    text = evaluator.matches(arch, num_images)
    if text is None:
        raise UserError("the metrics of this data set are not kept image by image; choose one with COCO's metrics")
    return ImageMatches.from_text(text)


def main() -> None:
    """Score, and print the figures."""
    parser = CommandLine(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernet", default="pretrained:photos", help="trained supernet (%(default)s)")
    parser.add_argument("--dataset", default="coco_people", help="data set of conf/dataset (%(default)s)")
    parser.add_argument("--dataset-root", help="its folder, if it needs one")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="images to score on (%(default)s)")
    parser.add_argument("--num-images", type=whole_number(1), help="images, spread over the split (all)")
    parser.add_argument("--resolution", type=whole_number(1), help="of the first part (the largest of the space)")
    parser.add_argument("--threads", type=whole_number(1), help="cores (all)")
    parser.add_argument("--cache", help="folder of scores (that of the searches)")
    parser.add_argument("--output", help="also write the JSON to this file")
    options = parser.parse_args()
    results = study(options)
    workload = {name: value for name, value in vars(options).items() if name not in ("output", "cache")}
    print_report(workload, results, options.output)


if __name__ == "__main__":
    run_command(main, STDERR)
