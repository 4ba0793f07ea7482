"""Counts all faults of a data set on disk, where reading it for training stops at the first."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from supernet.errors import UserError
from supernet.pose.coco.annotation_rules import KINDS, Fault, Kind
from supernet.pose.coco.annotations import AnnotationFile, check_content, read_content
from supernet.pose.coco.dataset import load_image, loss_mask
from supernet.pose.coco.exif_choice import Exif, choose_exif, unclear_rule
from supernet.pose.coco.image_table import ImageTable
from supernet.pose.coco.people_table import PeopleTable
from supernet.pose.coco.splits import DatasetOnDisk, SplitOnDisk
from supernet.pose.data.image_decoding import BadImage
from supernet.pose.data.image_source import ImageSource, image_source
from supernet.pose.keypoints import KeypointSet

IMAGE_KINDS = {
    "missing": Kind("missing or unreadable images", True),
    "undecodable": Kind("images that cannot be decoded", True),
    "damaged": Kind("images with damaged data", False),
    "impossible_size": Kind("images of an impossible size", True),
    "wrong_size": Kind("images that do not have the annotated size", True),
    "segmentation": Kind("images with a broken segmentation", False),
}
"""Kinds of faults of single images; training may skip these images, and evaluation stops at those that are refused."""
SPLIT_KINDS = {
    "exif": Kind("images whose EXIF orientation may or may not apply", True),
    "no_people": Kind("splits without a labelled person", True),
    "unpaired": Kind("keypoints with an unknown mirror image", False),
}
"""Kinds of faults of a whole split."""
ALL_KINDS = KINDS | SPLIT_KINDS | IMAGE_KINDS
_BLOCK_SIZE = 256
"""Images handed to the threads at a time, which bounds the results that wait."""


@dataclass
class Report:
    """The faults of one annotation file and its images.

    Attributes:
        split: Name of the split, or of several that share the file.
        annotation_file: Path of the file.
        num_images: Images in the file, without faulty entries.
        num_opened: Images opened.
        bad_share: Share of the opened images, without those that the split leaves out, that have a fault.
        num_people: People with annotated keypoints.
        keypoints: Their keypoint set; None if unknown.
        exif: The frame of the annotations, as configured or decided.
        counts: Number of faults by kind, in the order of ``ALL_KINDS``.
        examples: A few messages by kind.
    """

    split: str
    annotation_file: str
    num_images: int = 0
    num_opened: int = 0
    bad_share: float = 0.0
    num_people: int = 0
    keypoints: KeypointSet | None = None
    exif: Exif = "auto"
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ALL_KINDS, 0))
    examples: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in ALL_KINDS})

    @property
    def num_faults(self) -> int:
        """Number of faults of all kinds."""
        return sum(self.counts.values())

    def add(self, kind: str, message: str, num_examples: int) -> None:
        """Count a fault; the first ``num_examples`` messages of its kind become examples."""
        self.counts[kind] += 1
        if len(self.examples[kind]) < num_examples:
            self.examples[kind].append(message)

    def to_plain(self) -> dict[str, Any]:
        """Plain values, with only those kinds of faults that occur."""
        return {
            "split": self.split,
            "annotation_file": self.annotation_file,
            "keypoints": None if self.keypoints is None else self.keypoints.to_plain(),
            "exif": self.exif,
            "num_images": self.num_images,
            "num_opened": self.num_opened,
            "num_people": self.num_people,
            "num_faults": self.num_faults,
            "faults": {
                kind: {"count": count, "examples": self.examples[kind]} for kind, count in self.counts.items() if count
            },
        }


def distinct_parts(dataset: DatasetOnDisk, splits: Sequence[str]) -> dict[str, SplitOnDisk]:
    """The chosen splits; splits that share files become one, with a name such as "val and test".

    Raises:
        UserError: A split, file or folder does not exist.
    """
    names_by_files: dict[tuple[str, str], list[str]] = {}
    for split in splits:
        if split not in dataset.splits:
            raise UserError(f"there is no split {split!r}; choose among {', '.join(dataset.splits)}")
        part = dataset.splits[split]
        if not Path(part.annotations).is_file():
            raise UserError(
                f"there is no annotation file {part.annotations}; check dataset.root and dataset.{split}.annotations, "
                "or remove the split from splits"
            )
        image_source(part.images)
        names_by_files.setdefault((part.annotations, part.images), []).append(split)
    return {" and ".join(names): dataset.splits[names[0]] for names in names_by_files.values()}


def check_part(
    name: str,
    part: SplitOnDisk,
    dataset: DatasetOnDisk,
    *,
    limit: int | None = None,
    num_examples: int = 3,
    num_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check all annotations and images of a part of a data set; their faults are counted, never raised.

    Args:
        name: Name of the part in the report.
        part: The part's files, which exist.
        dataset: The data set.
        limit: Number of images to open, from the start; None opens all.
        num_examples: Messages of each kind to report.
        num_threads: Threads that open images; all cores if None.
        progress: Called with (images opened, images to open).

    Raises:
        UserError: The configuration of the keypoints is wrong.
    """
    report = Report(name, part.annotations, exif=dataset.exif)

    def on_fault(fault: Fault) -> None:
        report.add(fault.kind, f"{fault.place} {fault.rule}", num_examples)

    try:
        content = read_content(part.annotations)
    except UserError as error:
        report.add("not_json", str(error), num_examples)
        return report
    file, images = check_content(content, dataset.keypoints, dataset.category, part.images, on_fault)
    report.num_images = len(images)
    if file is not None:
        _add_people(file, report, num_examples)
    rows = range(len(images))[:limit]
    source, exif = image_source(part.images), dataset.exif
    if exif == "auto":
        choice = choose_exif(source, (images[row] for row in rows))
        exif = choice.exif
        report.exif = exif
        for file_name in choice.unclear:
            report.add("exif", unclear_rule(file_name), num_examples)
    check = partial(_image_fault, source, images, None if file is None else file.people, exif)
    people = file.people if file is not None and part.only_with_people else None
    used = set(range(len(images)) if people is None else people.image_rows[people.is_person].tolist())
    num_bad = 0
    for row, fault in zip(rows, _image_faults(check, rows, num_threads or os.cpu_count() or 1), strict=True):
        report.num_opened += 1
        num_bad += fault is not None and row in used
        if fault is not None:
            report.add(fault.kind, str(fault), num_examples)
        if progress is not None:
            progress(report.num_opened, len(rows))
    report.bad_share = num_bad / max(1, len(used.intersection(rows)))
    return report


def _add_people(file: AnnotationFile, report: Report, num_examples: int) -> None:
    """Add the people of a file to its report, and faults of the file as a whole."""
    report.keypoints = file.keypoints
    report.num_people = int(file.people.is_person.sum())
    for keypoint in file.keypoints.unpaired:
        rule = "has no side in its name, and is in no pair, though it may be on one side; set flip_pairs"
        report.add("unpaired", f"{keypoint} {rule}", num_examples)
    # Refused annotations are left out, so that their faults would hide the people of a file.
    if not report.num_people and not any(KINDS[kind].refused and report.counts[kind] for kind in KINDS):
        rule = f"has no person with labelled keypoints among {len(file.people.ids)} annotations"
        report.add("no_people", f"{report.annotation_file} {rule}", num_examples)


def _image_faults(
    check: Callable[[int], BadImage | None], rows: Sequence[int], num_threads: int
) -> Iterator[BadImage | None]:
    """The fault of each image or None, in order. Decoders release the GIL, so threads run in parallel."""
    with ThreadPoolExecutor(num_threads) as threads:
        for start in range(0, len(rows), _BLOCK_SIZE):
            yield from threads.map(check, rows[start : start + _BLOCK_SIZE])


def _image_fault(
    source: ImageSource, images: ImageTable, people: PeopleTable | None, exif: Exif, row: int
) -> BadImage | None:
    """The fault of the image at ``row``, if it has any."""
    image = images[row]
    try:
        load_image(source, image, strict=True, exif=exif)
        if people is not None:
            loss_mask(image, people, people.of_image(row))
    except BadImage as fault:
        return fault
    return None
