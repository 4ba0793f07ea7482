"""Demonstrate the whole workflow on built-in people, and the shipped model on a photograph.

Run by ``make demo``. Every step is a documented command, which is printed before it runs. It takes no options, and
about 15 minutes: training measures how many steps it can take, and on a slow machine the search is shorter, too.
"""

import argparse
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from supernet.cli.interrupts import begin_work, command

CONSOLE = Console(markup=False, highlight=False)
RUNS = Path("runs")
BUDGET = "80M"
TRAIN_MINUTES = 11
PHOTOGRAPH = Path(__file__).parent.parent / "docs" / "astronaut.jpg"
"""By NASA, in the public domain: Eileen Collins, 1993."""
FULL_STEPS = 5800
"""Steps of a full training, after which the search is a full one."""


@command
def main() -> None:
    """Run the steps and print a table of results and their files."""
    description = (__doc__ or "").partition("\n\n")
    argparse.ArgumentParser(description=description[0], epilog=description[2]).parse_args()
    begin_work()
    start = time.perf_counter()
    # With flip test, as published figures are measured.
    train_seconds = run("supernet.train", f"minutes={TRAIN_MINUTES}", "evaluation.flip_test=true")
    share = min(1.0, summary("train")["steps"] / FULL_STEPS)
    ranges = {"generations": (2, 5), "num_images": (40, 100), "baseline": (3, 10)}  # the shortest and the full search
    shorter = [f"{name}={least + round(share * (full - least))}" for name, (least, full) in ranges.items()]
    seconds = {
        "train": train_seconds,
        "evolve": run("search.evolve", f"constraint.macs={BUDGET}", *(shorter if share < 1 else ())),
        "export": run("subnet_export", "--arch", str(RUNS / "evolve" / "latest" / "arch.json")),
        "predict": run("subnet_export.predict", "--model", str(RUNS / "export" / "latest"), "--dataset-index", "0"),
    }
    beside_truth = newest_prediction()
    run("subnet_export.predict", "--model", "pretrained:photos_large", str(PHOTOGRAPH))
    trained, searched, exported = (summary(name) for name in ("train", "evolve", "export"))
    chosen, baseline = searched["chosen"], searched["baseline"]
    macs = chosen["costs"]["macs"] / 1e6
    rows: list[tuple[str, str, Path | str]] = [
        (f"{row['subnet']} subnet", f"AP {row['metrics']['AP']:.3f}", "") for row in trained["subnets"]
    ]
    rows += [
        ("supernet", f"{seconds['train']:.0f} s", RUNS / "train" / "latest" / "supernet.pt"),
        (
            f"searched subnet, {BUDGET} MACs",
            f"AP {chosen['metrics']['test']['AP']:.3f} at {macs:.1f} M",
            RUNS / "evolve" / "latest" / "arch.json",
        ),
        (
            f"mean of {baseline['num']} random within {BUDGET}",
            f"AP {baseline['ap_mean']:.3f}",
            RUNS / "evolve" / "latest" / "report.html",
        ),
        ("exported subnet", f"AP {exported['measurement']['metrics']['AP']:.3f}", RUNS / "export" / "latest"),
        ("prediction beside truth", "", beside_truth),
        ("shipped model, photograph", "", newest_prediction() / PHOTOGRAPH.name),
    ]
    CONSOLE.print(f"demo: {time.perf_counter() - start:.0f} s", style="italic")
    for name, value, path in rows:  # lines, because a table would break paths
        CONSOLE.print(f"{name:29} {value:18} {path}".rstrip(), soft_wrap=True)
    num_images = trained["num_test_images"]
    CONSOLE.print(f"APs are on {num_images} test images that neither training nor search saw, with flip test.")


def run(module: str, *arguments: str) -> float:
    """Run ``python -m module arguments`` and return the seconds; a failure ends the demo with its exit status.

    Ctrl-C reaches the command, too, which then saves its work and ends the demo.
    """
    command = [sys.executable, "-m", module, *arguments]
    CONSOLE.print(f"\n== python -m {' '.join(command[2:])}", style="bold", soft_wrap=True)
    start = time.perf_counter()
    process = subprocess.Popen(command)
    while process.poll() is None:
        with suppress(KeyboardInterrupt):
            process.wait()
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - start


def newest_prediction() -> Path:
    """Return the folder of the latest run of ``predict`` by its own name."""
    return RUNS / "predict" / (RUNS / "predict" / "latest").resolve().name


def summary(command: str) -> dict[str, Any]:
    """Read ``summary.json`` of the latest run of ``command``."""
    content: dict[str, Any] = json.loads((RUNS / command / "latest" / "summary.json").read_text("utf-8"))
    return content


if __name__ == "__main__":
    main()
