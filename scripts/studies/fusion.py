"""Study what LitePose's fusion head is worth: one network with and without its connections from early stages.

Run as ``python -m scripts.studies.fusion --dataset-root FOLDER``. The head of LitePose adds maps of earlier stages to
each of its levels and predictions (arXiv 2205.01271, section 3.2). Both networks have the largest kernels, all blocks
and the smallest widths of the space, start from the same trained backbone and the same new head, and see the same
images in the same order. In one of them, the weights of the added connections are 0 and stay so. Both are calibrated
and scored on the same images. Prints JSON; each finished training is kept in ``--out``, so that a stopped study
continues.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scripts.benchmarks.timing import print_report
from scripts.studies.new_head import with_new_head
from scripts.studies.sharing_archs import single_arch_space
from supernet.arch import Arch, layers
from supernet.cli.arguments import CommandLine, number, whole_number
from supernet.cli.console import STDERR, progress_bar, run_command
from supernet.cli.hydra_app import compose_config
from supernet.compute.distributed import SINGLE_PROCESS
from supernet.costs.analytic import macs
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.io import files
from supernet.io.schema import from_mapping
from supernet.litepose import LitePose
from supernet.pose.data.cached import CachedDataset
from supernet.pose.datasets import build
from supernet.space import SearchSpace
from supernet.training.assembly import configure_process, new_supernet, new_trainer
from supernet.training.settings import TrainSettings
from supernet.training.setup import build_setup

METRICS = ("AP", "AP50", "APM", "APL")
VARIANTS = {"with": True, "without": False}


def added_weights(network: LitePose) -> list[nn.Parameter]:
    """Return the weights whose outputs the head adds to those of its main path; all 0, the main path is left alone."""
    predictions = (prediction.get_parameter("conv.3.weight") for prediction in network.final_raw)
    return [*network.deconv_raw.parameters(), *predictions]


def remove_fusion(network: LitePose) -> None:
    """Set the added weights to 0, in place, and let no gradient move them."""
    for weight in added_weights(network):
        weight.data.zero_()
        weight.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]


def multiply_adds(arch: Arch, num_keypoints: int, has_fusion: bool) -> int:
    """Return the multiply-adds of one of the two networks."""
    walk = layers(arch, num_keypoints)
    return macs([layer for layer in walk if has_fusion or not layer.name.startswith(("deconv_raw.", "final_raw."))])


def config_of(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return the plain configuration of both trainings from a seed."""
    overrides = [f"experiment={options.experiment}", f"steps={options.steps}", f"seed={seed}"]
    overrides += [f"init={options.init}", *options.changes]
    overrides += [f"dataset.root={options.dataset_root}"] if options.dataset_root else []
    overrides += [f"threads={options.threads}"] if options.threads else []
    config = compose_config("train", overrides)
    space = SearchSpace.from_dict(config["space"])
    arch = replace(space.restrict(["width"]).smallest(), resolution=options.resolution or space.resolutions[0])
    phase = {"name": "alone", "share": 1, "elastic": [], "subnets": ["largest"], "learning_rate": options.learning_rate}
    return config | {"space": single_arch_space(arch, f"{space.name}_narrow").to_dict(), "phases": [phase]}


def train_and_score(settings: TrainSettings, has_fusion: bool) -> dict[str, Any]:
    """Train one network and return its figures on both splits that training does not see."""
    setup = build_setup(settings, SINGLE_PROCESS)
    configure_process(setup)
    supernet = new_supernet(setup, SINGLE_PROCESS, is_resumed=False)
    with_new_head(supernet, settings.seed)
    if not has_fusion:
        remove_fusion(supernet.network)
    trainer = new_trainer(setup, supernet, SINGLE_PROCESS)
    with progress_bar(STDERR) as progress:
        task = progress.add_task("training", total=settings.steps, note="")
        while (scheduled := trainer.current_phase()) is not None:
            trainer.start_phase(scheduled)
            for batch, waited in trainer.batches(scheduled):
                report = trainer.train_step(scheduled, batch, waited)
                progress.update(task, advance=1, note=f"loss {float(report.losses[0].total):.4f}")
    averaged = trainer.averaged().eval()
    if not has_fusion:
        assert not any(weight.any() for weight in added_weights(averaged.network))
    scorer = SubnetScorer(
        averaged, setup.train_set, setup.test_set, settings.evaluation, settings.num_calibration_images
    )
    arch = setup.space.largest()
    splits = {"val": CachedDataset(build(setup.dataset, "val")), "test": setup.test_set}
    cost = multiply_adds(arch, setup.keypoints.num, has_fusion)
    figures: dict[str, Any] = {"arch": arch.describe(), "macs": cost}
    for split, images in splits.items():
        metrics = scorer.score(arch, images).metrics
        figures[split] = {name: round(float(metrics[name]), 4) for name in METRICS if name in metrics}
    return figures


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Run the trainings that are not finished, and return the figures of all."""
    rows: dict[str, Any] = {}
    for seed in options.seeds:
        for name, has_fusion in VARIANTS.items():
            path = options.out / f"seed{seed}_{name}.json"
            config = config_of(options, seed)
            saved = files.read_json(path, "result") if path.exists() else None
            if saved is None:
                figures = train_and_score(from_mapping(TrainSettings, config, ""), has_fusion)
                saved = {"config": config, "figures": figures}
                files.write_json(path, saved)
            if saved["config"] != config:
                raise UserError(f"{path} is of a training with other options; choose another --out")
            rows[f"seed {seed}, {name} fusion"] = saved["figures"]
    return rows


def main() -> None:
    """Train what is missing, and print the figures."""
    parser = CommandLine(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="photos_tune", help="recipe of conf/experiment (%(default)s)")
    parser.add_argument("--init", default="pretrained:photos", help="supernet with the backbone (%(default)s)")
    parser.add_argument("--dataset-root", help="folder of the data set, if it needs one")
    parser.add_argument("--resolution", type=whole_number(1), help="side of the inputs (the smallest of the space)")
    parser.add_argument("--steps", type=whole_number(1), default=1200, help="optimizer steps (%(default)s)")
    parser.add_argument("--learning-rate", type=number(1e-8, 1.0), default=6e-3, help="peak (%(default)s)")
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="option of conf/train.yaml"
    )
    parser.add_argument("--seeds", type=whole_number(0), nargs="+", default=[0], help="of the trainings (0)")
    parser.add_argument("--threads", type=whole_number(1), help="cores (all)")
    parser.add_argument("--out", type=Path, default=Path("runs/study_fusion"), help="folder of results (%(default)s)")
    options = parser.parse_args()
    print_report({name: value for name, value in vars(options).items() if name != "out"}, study(options))


if __name__ == "__main__":
    run_command(main, STDERR)
