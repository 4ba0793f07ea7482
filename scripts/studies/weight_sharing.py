"""Study: are the subnets of a supernet as good as the same archs trained alone, at what cost, and in the same order?

Run as python -m scripts.studies.weight_sharing in the root of the repository. Archs spread over a space are each
trained alone, and compared with calibrated subnets of supernets whose training costs as many multiply-adds as one,
two or three such trainings (--prices), also after fine-tuning each subnet (--tuning-steps). An arch alone is trained
with the recipe's phases in which a supernet trains its largest subnet alone, stretched to all steps, or without any
with all of its phases. All trainings see images in the same order. They start from the same weights if the recipe
starts from trained ones (init=), with --new-head from the same backbone and the same random head; fine-tuning starts
from its supernet. Scores are on the same test images. The study takes hours and can be stopped at any time: the same
command continues it, and one with more strategies or prices, or with fine-tuning, adds these to it. Its parts are
called sandwich-3x (a strategy and its price), alone:0, alone:1 (by multiply-adds), sandwich-3x:0 (fine-tuned), and
several processes can share them (--only).
"""

import argparse
import shlex
from pathlib import Path
from typing import Any

from rich.table import Table

import supernet.cli.hydra_app  # noqa: F401  before torch: it chooses how threads wait

# isort: split
from scripts.studies.sharing_plan import Part, StudyPlan
from scripts.studies.sharing_results import write_results
from scripts.studies.sharing_runs import Study
from supernet.cli.arguments import CommandLine, whole_number
from supernet.cli.console import CONSOLE, run_command
from supernet.errors import UserError
from supernet.io import files
from supernet.io.schema import from_mapping

DEFAULTS = StudyPlan(
    space="nano",
    steps=2000,
    num_archs=8,
    arch_seed=0,
    strategies=("progressive", "sandwich"),
    prices=(3.0,),
    tuning_steps=0,
    experiment=None,
    new_head=False,
    changes=(),
)
STUDY_FILE = "study.json"
SET_BY_STUDY = ("space", "phases", "experiment", "steps", "seed", "threads", "runs", "name", "resume")
"""Training options that ``--set`` cannot change, because the study sets them."""


def main() -> None:
    """Run the parts of the study that are not done, and write the results."""
    options = parse_options()
    study = open_study(options)
    parts = study.parts(options.seeds)
    chosen = parts if options.only is None else [part for part in parts if part.name in options.only]
    if unknown := set(options.only or ()) - {part.name for part in parts}:
        raise UserError(f"there is no part {sorted(unknown)[0]!r}; choose among {sorted({p.name for p in parts})}")
    if options.status:
        print_status(study, parts)
        return
    files.write_json(options.out / STUDY_FILE, study.to_dict())

    def report() -> None:
        write_results(study, options.seeds, options.results or options.out, command(study.plan, options.seeds))

    missing = [part for part in chosen if not study.is_done(part)]
    for i, part in enumerate(missing):
        CONSOLE.rule(
            f"{part.name}, seed {part.seed}: part {i + 1} of {len(missing)}{time_left(study, parts, missing[i:])}"
        )
        study.run(part)
        report()
    report()
    print_status(study, parts)


def parse_options() -> argparse.Namespace:
    """Parse the command line; omitted options of the plan are None."""
    parser = CommandLine(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    plan = parser.add_argument_group("the study", "by default those of the study in --out, or for a new study:")
    plan.add_argument("--space", metavar="NAME", help=f"search space of conf/space ({DEFAULTS.space})")
    plan.add_argument("--steps", type=int, help=f"optimizer steps of an arch alone ({DEFAULTS.steps})")
    plan.add_argument("--num-archs", type=int, help=f"number of archs to compare ({DEFAULTS.num_archs})")
    plan.add_argument("--arch-seed", type=int, help=f"seed of the choice of archs ({DEFAULTS.arch_seed})")
    strategies = ", ".join(DEFAULTS.strategies)
    plan.add_argument(
        "--strategies",
        nargs="+",
        metavar="NAME",
        help=f"trainings of supernets: files of conf/phases, or recipe: the experiment's phases ({strategies})",
    )
    plan.add_argument(
        "--prices",
        type=float,
        nargs="+",
        help="multiply-adds of training a supernet, in those of the mean arch alone (3)",
    )
    plan.add_argument(
        "--tuning-steps", type=int, help=f"steps of fine-tuning every subnet; 0: none ({DEFAULTS.tuning_steps})"
    )
    plan.add_argument("--experiment", metavar="NAME", help="recipe of conf/experiment for every training (none)")
    plan.add_argument(
        "--new-head", action="store_true", default=None, help="take the backbone only from the recipe's init="
    )
    plan.add_argument(
        "--set",
        dest="changes",
        action="append",
        metavar="KEY=VALUE",
        help="option of conf/train.yaml for every training; may be repeated",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="seeds of the trainings; AP is the mean over them (0)"
    )
    parser.add_argument("--threads", type=whole_number(1), help="threads of the network on a CPU (all cores)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/study_sharing"), help="folder of the study (%(default)s)"
    )
    parser.add_argument("--results", type=Path, help="folder of table, figures and image (--out)")
    parser.add_argument("--only", action="append", metavar="PART", help="run this part only; may be repeated")
    parser.add_argument("--status", action="store_true", help="print what is done and exit")
    options: argparse.Namespace = parser.parse_args()
    return options


def open_study(options: argparse.Namespace) -> Study:
    """Return the study in ``--out``, or a new one if there is none; nothing is written.

    Raises:
        UserError: The options do not fit together, or are not those of the study in ``--out``.
    """
    path = options.out / STUDY_FILE
    saved = files.read_json(path, "study") if path.exists() else None
    plan = DEFAULTS.to_dict() | (saved["plan"] if saved else {})
    changes = {name: getattr(options, name) for name in plan if getattr(options, name) is not None}
    for name, value in changes.items():
        if saved and value != plan[name] and not _adds_parts(name, plan[name], value):
            raise UserError(f"the study in {options.out} has {name} {plan[name]}, not {value}; choose another --out")
    for change in changes.get("changes", []):
        key = change.partition("=")[0]
        if key.lstrip("+~") in SET_BY_STUDY:
            raise UserError(f"--set {change}: the study sets {key} itself; leave it out or use the option of the study")
    study = Study(options.out, from_mapping(StudyPlan, plan | changes, ""), options.threads)
    value = study.to_dict()
    if saved and (saved["archs"] != value["archs"] or not saved["phases"].items() <= value["phases"].items()):
        raise UserError(f"the phases or archs of the study in {path} have changed since; choose another --out")
    return study


def _adds_parts(name: str, before: Any, now: Any) -> bool:
    """Whether a changed option of the plan leaves all parts of a study as they are, and only adds some."""
    if name == "tuning_steps":
        return bool(before == 0)
    return name in ("strategies", "prices") and set(before) <= set(now)


def time_left(study: Study, parts: list[Part], missing: list[Part]) -> str:
    """Return the minutes that ``missing`` parts take to train, by multiply-adds; nothing before one is finished."""
    finished = {part: seconds for part in parts if (seconds := study.train_seconds(part)) is not None}
    if not finished:
        return ""
    seconds_per_mac = sum(finished.values()) / sum(map(study.macs, finished))
    left = sum(map(study.macs, (part for part in missing if part not in finished)))
    return f", about {seconds_per_mac * left / 60:.0f} min of training left"


def print_status(study: Study, parts: list[Part]) -> None:
    """Print steps and AP of every part."""
    table = Table("part", "seed", "steps", "AP by multiply-adds")
    for part in parts:
        aps = [study.ap(part, arch) for arch in study.arch_numbers(part)]
        ap_list = " ".join("-" if ap is None else f"{ap:.3f}" for ap in aps)
        table.add_row(part.name, str(part.seed), f"{study.steps_done(part)} of {study.steps(part)}", ap_list)
    CONSOLE.print(table)


def command(plan: StudyPlan, seeds: list[int]) -> str:
    """Return the command that repeats this study."""
    words = ["python", "-m", "scripts.studies.weight_sharing", f"--space={plan.space}", f"--steps={plan.steps}"]
    words += [f"--num-archs={plan.num_archs}", f"--arch-seed={plan.arch_seed}", "--strategies", *plan.strategies]
    words += ["--prices", *(f"{price:g}" for price in plan.prices), f"--tuning-steps={plan.tuning_steps}"]
    words += [] if plan.experiment is None else [f"--experiment={plan.experiment}"]
    words += ["--new-head"] if plan.new_head else []
    words += [f"--set={change}" for change in plan.changes]
    return shlex.join([*words, "--seeds", *map(str, seeds)])


if __name__ == "__main__":
    run_command(main)
