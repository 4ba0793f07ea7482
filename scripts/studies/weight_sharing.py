"""Whether a supernet's subnets are as good as the same archs trained alone, and in the same order.

Archs spread over a space are each trained alone for as many steps as a supernet takes, and cut from supernets trained
by progressive shrinking and by the sandwich rule, with calibration only. All see the same images in batches of the
same size; alone, an arch gets the phases in which progressive shrinking trains its largest subnet, stretched to all
steps. The scores are of the same test images, with flip test. Run from the repository's root as
python -m scripts.studies.weight_sharing. It takes hours, and can be stopped at any time: the same command continues,
and a part that is done is not done again. Parts are called progressive, sandwich, alone:0, alone:1, ... (by rising
multiply-adds).
"""

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from supernet.cli.console import CONSOLE, run_command  # before torch: it chooses how threads wait

# isort: split
from scripts.studies.sharing_results import write_results
from scripts.studies.sharing_runs import Part, Study, StudyPlan
from scripts.studies.sharing_timing import measured_pace, seconds_left
from supernet.errors import UserError
from supernet.io import files
from supernet.io.schema import from_mapping

DEFAULTS = StudyPlan(space="nano", steps=5800, num_archs=8, arch_seed=0, changes=())
STUDY_FILE = "study.json"
OWN = ("space", "dataset", "phases", "experiment", "steps", "seed", "threads", "runs", "name", "resume")
"""Options of training that the study sets itself."""


def main() -> None:
    """Does what is left of the study and writes its report."""
    options = parsed()
    study = opened(options)
    parts = study.parts(options.seeds)
    chosen = parts if options.only is None else [part for part in parts if part.name in options.only]
    if unknown := set(options.only or ()) - {part.name for part in parts}:
        raise UserError(f"there is no part {sorted(unknown)[0]!r}; choose among {sorted({p.name for p in parts})}")
    if options.status:
        tell_state(study, parts)
        return
    files.write_json(options.out / STUDY_FILE, study.to_dict())

    def report() -> None:
        write_results(study, options.seeds, options.results or options.out, command(study.plan, options.seeds))

    todo = [part for part in chosen if not study.done(part)]
    if todo:
        CONSOLE.print(f"measuring a few steps of {len(todo)} parts; Ctrl-C stops, the same command continues")
    seconds = {part: estimated(study, part) for part in todo}
    for i, part in enumerate(todo):
        left = sum(seconds[each] for each in todo[i:])
        CONSOLE.rule(f"{part.name}, seed {part.seed}: {i + 1} of {len(todo)} parts to do")
        CONSOLE.print(f"about {left / 60:.1f} min for this and all other parts left")
        study.do(part)
        report()
    report()
    tell_state(study, parts)


def parsed() -> argparse.Namespace:
    """Read the command line; options of the plan that were not given are None."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    plan = parser.add_argument_group("the study", "omitted, they are those of the study in --out, or for a new one:")
    plan.add_argument("--space", metavar="NAME", help=f"of conf/space ({DEFAULTS.space})")
    plan.add_argument("--steps", type=int, help=f"optimizer steps of every training ({DEFAULTS.steps})")
    plan.add_argument("--num-archs", type=int, help=f"archs to compare ({DEFAULTS.num_archs})")
    plan.add_argument("--arch-seed", type=int, help=f"seed that they are drawn with ({DEFAULTS.arch_seed})")
    plan.add_argument(
        "--set",
        dest="changes",
        action="append",
        metavar="KEY=VALUE",
        help="another value of an option in conf/train.yaml, for every training; may be repeated",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings; AP is their mean (0)")
    parser.add_argument("--threads", type=int, help="of the network on a CPU (all cores)")
    parser.add_argument("--out", type=Path, default=Path("runs/study_sharing"), help="where it is kept (%(default)s)")
    parser.add_argument("--results", type=Path, help="where table, figures and image go (--out)")
    parser.add_argument("--only", action="append", metavar="PART", help="do this part only; may be repeated")
    parser.add_argument("--status", action="store_true", help="tell what is done, and do nothing")
    return parser.parse_args()


def opened(options: argparse.Namespace) -> Study:
    """Return the study in ``--out``, or a new one if there is none; nothing is written.

    Raises:
        UserError: The options do not fit together, or the study there was begun with others.
    """
    path = options.out / STUDY_FILE
    begun = files.read_json(path, "study") if path.exists() else None
    plan = {**asdict(DEFAULTS), "changes": [], **(begun["plan"] if begun else {})}
    given = {name: getattr(options, name) for name in plan if getattr(options, name) is not None}
    for name, value in given.items():
        if begun and value != plan[name]:
            raise UserError(f"the study in {options.out} has {name} {plan[name]}, not {value}; choose another --out")
    for change in given.get("changes", []):
        key = change.partition("=")[0]
        if key.lstrip("+~") in OWN:
            raise UserError(f"--set {change}: the study sets {key} itself; leave it out or use the study's own option")
    if options.threads is not None and options.threads < 1:
        raise UserError(f"--threads is {options.threads}; it must be at least 1")
    study = Study(options.out, from_mapping(StudyPlan, plan | given, ""), options.threads)
    value = study.to_dict()
    if begun and begun != value:
        raise UserError(f"what {path} was begun with (phases or archs) has changed since; choose another --out")
    return study


def estimated(study: Study, part: Part) -> float:
    """Measure a few steps of ``part``; return the seconds that it will take, and print them."""
    seconds = seconds_left(study, part, measured_pace(study, part))
    CONSOLE.print(f"{part.name}, seed {part.seed}: about {seconds / 60:.1f} min")
    return seconds


def tell_state(study: Study, parts: list[Part]) -> None:
    """Print steps and AP of every part."""
    table = Table("part", "seed", "steps", "AP by rising multiply-adds")
    for part in parts:
        aps = [study.ap(part, arch) for arch in study.scored(part)]
        told = " ".join("-" if ap is None else f"{ap:.3f}" for ap in aps)
        table.add_row(part.name, str(part.seed), f"{study.steps_done(part)} of {study.plan.steps}", told)
    CONSOLE.print(table)


def command(plan: StudyPlan, seeds: list[int]) -> str:
    """Return the command that does this study anew, wherever it is kept."""
    words = ["python", "-m", "scripts.studies.weight_sharing", f"--space={plan.space}", f"--steps={plan.steps}"]
    words += [f"--num-archs={plan.num_archs}", f"--arch-seed={plan.arch_seed}"]
    words += [f"--set={change}" for change in plan.changes]
    return shlex.join([*words, "--seeds", *map(str, seeds)])


if __name__ == "__main__":
    run_command(main)
