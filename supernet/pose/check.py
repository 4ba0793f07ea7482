"""Checks a data set for faults: ``python -m supernet.pose.check dataset=coco dataset.root=FOLDER`` (``--help``).

Imports that take long are inside functions: the command can be stopped while they last.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supernet.cli.interrupts import command
from supernet.errors import UserError
from supernet.io import files
from supernet.io.schema import check_numbers, from_mapping

if TYPE_CHECKING:
    from supernet.pose.coco.fault_report import Report
    from supernet.pose.coco.splits import DatasetOnDisk


@dataclass(frozen=True)
class CheckSettings:
    """The options of ``conf/check.yaml``, which documents them."""

    dataset: dict[str, Any]
    splits: tuple[str, ...]
    limit: int | None
    examples: int
    threads: int | None
    output: str | None

    def __post_init__(self) -> None:
        """Raise UserError for a value out of range, or a data set that is not on disk."""
        if not self.splits:
            raise UserError("splits is empty; name at least one of train, val and test")
        check_numbers(self, "limit", "examples", least=0)
        check_numbers(self, "threads", least=1)
        if self.dataset.get("kind") == "synthetic":
            raise UserError("a synthetic data set has no files to check; give one on disk, such as dataset=coco")


@command
def main() -> None:
    """Run the entry point."""
    from supernet.cli.config_command import run_with_config

    run_with_config("check", _job)


def _job(config: dict[str, Any]) -> None:
    reports = check(config)
    if any(report.num_faults for report in reports):
        raise SystemExit(1)


def check(config: Mapping[str, Any]) -> "list[Report]":
    """Check the splits of a data set as configured, print the faults and write them to ``output``.

    Raises:
        UserError: An option is wrong, or a file or folder is missing.
    """
    import cv2

    from supernet.cli.console import CONSOLE, progress_bar
    from supernet.cli.runs import write_summary
    from supernet.pose.coco.fault_report import check_part, distinct_parts
    from supernet.pose.coco.splits import DatasetOnDisk

    settings = from_mapping(CheckSettings, config, "")
    dataset = DatasetOnDisk.from_plain(settings.dataset)
    parts = distinct_parts(dataset, settings.splits)
    if settings.output is not None:
        files.check_writable(Path(settings.output) / "summary.json")
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # the report lists what it would warn of
    reports = []
    with progress_bar() as progress:
        for name, part in parts.items():
            task = progress.add_task(f"checking {name}", total=None, note="reading annotations")

            def on_image(done: int, total: int, task: Any = task) -> None:
                progress.update(task, completed=done, total=total, note="opening images")

            report = check_part(
                name,
                part,
                dataset,
                limit=settings.limit,
                num_examples=settings.examples,
                num_threads=settings.threads,
                progress=on_image,
            )
            total = report.num_opened
            progress.update(task, completed=total, total=total, note=f"{report.num_faults} faults")
            dataset = replace(dataset, exif=report.exif)  # one split decides for the next, as in training
            reports.append(report)
    for report in reports:
        _print(report, dataset)
    if settings.output is not None:
        num_faults = sum(report.num_faults for report in reports)
        summary = {
            "dataset": settings.dataset,
            "num_faults": num_faults,
            "splits": [report.to_plain() for report in reports],
        }
        write_summary(Path(settings.output), summary)
        CONSOLE.print(f"report: {Path(settings.output) / 'summary.json'}", soft_wrap=True)
    return reports


def _print(report: "Report", dataset: "DatasetOnDisk") -> None:
    from rich.table import Table
    from rich.text import Text

    from supernet.cli.console import CONSOLE, print_wide
    from supernet.pose.coco.fault_report import ALL_KINDS

    keypoints = report.keypoints
    described = "keypoints unknown" if keypoints is None else f"{keypoints.num} keypoints ({keypoints.name})"
    CONSOLE.print(
        Text.assemble(
            (report.split, "bold"),
            f": {report.num_people} people with keypoints in {report.num_images} images, {report.num_opened} of them "
            f"opened, {described}: ",
            (f"{report.num_faults} faults", "bold red") if report.num_faults else ("no faults", "green"),
        ),
        soft_wrap=True,
    )
    if keypoints is not None and not isinstance(keypoints.to_plain(), str):
        pairs = ", ".join(f"{keypoints.names[left]}/{keypoints.names[right]}" for left, right in keypoints.flip_pairs)
        sigmas = ", ".join(f"{name} {sigma:g}" for name, sigma in zip(keypoints.names, keypoints.sigmas, strict=True))
        CONSOLE.print(f"  mirrored pairs: {pairs or 'none'}\n  sigmas: {sigmas}", highlight=False, soft_wrap=True)
    if not report.num_faults:
        return
    table = Table(box=None)
    table.add_column("fault", no_wrap=True)
    table.add_column("count", justify="right")
    table.add_column("training", no_wrap=True)
    table.add_column("examples", overflow="fold")
    for kind, count in report.counts.items():
        if count:
            examples = report.examples[kind] + ["..."] * (len(report.examples[kind]) < count)
            table.add_row(ALL_KINDS[kind].title, str(count), _effect(kind, report, dataset), "\n".join(examples))
    print_wide(table)


def _effect(kind: str, report: "Report", dataset: "DatasetOnDisk") -> str:
    """Return how a training, which also evaluates, reacts to a fault."""
    from supernet.pose.coco.fault_report import ALL_KINDS, IMAGE_KINDS

    splits = report.split.split(" and ")
    if kind in IMAGE_KINDS and "train" in splits:
        if report.bad_share > (dataset.max_bad_share if dataset.on_bad_image == "skip" else 0):
            return "stops"
        if splits == ["train"] or not IMAGE_KINDS[kind].refused:
            return "skips"
    if kind == "unpaired":
        return "does not mirror"
    return "stops" if ALL_KINDS[kind].refused else "continues"


if __name__ == "__main__":
    main()
