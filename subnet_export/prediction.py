"""Pictures in, drawings and keypoints out."""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subnet_export.exported_model import ExportedModel
from subnet_export.measuring import at_root
from subnet_export.model import load_model
from subnet_export.report import prepare
from supernet import cli, files
from supernet.errors import UserError
from supernet.pose.datasets import build
from supernet.pose.drawing import contact_sheet, draw_people_at, save_png
from supernet.pose.inference import People
from supernet.pose.pictures import read_picture

PEOPLE_FILE = "people.json"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_LEAST_PIXELS = 480
_MOST_LINES = 10


@dataclass(frozen=True)
class Predicted:
    """One picture's people.

    Attributes:
        name: Where the picture came from.
        drawing: File name of its drawing.
        size: Width and height of the picture, px.
        people: In pixels of the picture.
    """

    name: str
    drawing: str
    size: tuple[int, int]
    people: People


def run(options: argparse.Namespace) -> None:
    """Predict as the command line asks.

    Raises:
        UserError: A picture cannot be read; the others are done first, and it names all that cannot.
    """
    began = time.perf_counter()
    device = prepare(options)
    place = Path(options.model or Path(options.runs) / "export" / "latest")
    model = load_model(place, device)
    broken: list[str] = []
    if options.pictures:
        done = list(_draw_files(model, list_pictures(options.pictures), options.folder, options.min_score, broken))
    else:
        dataset = at_root(model.dataset, options.dataset_root)
        done = [_draw_example(model, dataset, options.dataset_index or 0, options.folder, options.min_score)]
    if done:
        files.write_text(options.folder / PEOPLE_FILE, json.dumps(as_json(done, model)) + "\n")
        figures = {
            "model": str(place.resolve()),
            "num_pictures": len(done),
            "num_people": sum(len(each.people.scores) for each in done),
            "refused": broken,
            "seconds": round(time.perf_counter() - began, 1),
        }
        cli.write_summary(options.folder, figures)
        if options.is_default_folder:
            cli.point_latest(options.folder)
        lines = [
            f"{each.name}: {len(each.people.scores)} people, {options.folder / each.drawing}"
            for each in done[:_MOST_LINES]
        ]
        lines += [f"and {len(done) - _MOST_LINES} more pictures"] * (len(done) > _MOST_LINES)
        lines.append(f"keypoints: {options.folder / PEOPLE_FILE}")
        cli.CONSOLE.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    if broken:
        total = len(broken) + len(done)
        raise UserError((f"{len(broken)} of {total} could not be used: " if total > 1 else "") + "; ".join(broken))


def list_pictures(places: Iterable[str]) -> list[Path]:
    """Return the files named, and for each folder named the pictures in it by name.

    Raises:
        UserError: A folder holds no picture.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if not place.is_dir():
            found.append(place)
            continue
        inside = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
        if not inside:
            raise UserError(f"folder {place} holds no picture ({', '.join(SUFFIXES)}); name another")
        found += inside
    return found


def as_json(done: Iterable[Predicted], model: ExportedModel) -> dict[str, Any]:
    """Return the people found, laid out as a COCO annotation file.

    ``keypoints`` are x, y in pixels of the picture and the heatmap's value for each of K, all 0 where not found.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate(done, start=1):
        width, height = each.size
        images.append({"id": number, "file_name": each.name, "drawing": each.drawing, "width": width, "height": height})
        for pose, score in zip(each.people.poses, each.people.scores, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "score": round(float(score), 5),
                    "keypoints": [round(float(value), 4) for value in pose.ravel()],
                }
            )
    skeleton = [[first + 1, second + 1] for first, second in model.keypoints.skeleton]
    category = {"id": 1, "name": "person", "keypoints": list(model.keypoints.names), "skeleton": skeleton}
    return {"images": images, "annotations": annotations, "categories": [category]}


def enlarged_drawing(
    image: npt.NDArray[np.uint8], poses: npt.NDArray[np.floating], model: ExportedModel
) -> npt.NDArray[np.uint8]:
    """Draw ``poses`` (P, K, 3) on ``image`` (H, W, 3), enlarged by a whole number if it is small."""
    return draw_people_at(image, poses, model.keypoints, max(1, round(_LEAST_PIXELS / min(image.shape[:2]))))


def _draw_files(
    model: ExportedModel, paths: list[Path], folder: Path, min_score: float, broken: list[str]
) -> Iterator[Predicted]:
    """Predict on each file, write its drawing and yield it; what cannot be read is appended to ``broken``."""
    taken: set[str] = set()
    with cli.progress_bar() as progress:
        task = progress.add_task("predicting", total=len(paths), note="")
        for path in paths:
            progress.update(task, note=path.name)
            try:
                image = read_picture(path, upright=True)
            except UserError as error:
                broken.append(str(error))
            else:
                people = model.predict(image, min_score)
                name = _free_name(path.stem, taken)
                save_png(folder / name, enlarged_drawing(image, people.poses, model))
                yield Predicted(str(path), name, (image.shape[1], image.shape[0]), people)
            progress.update(task, advance=1)


def _draw_example(
    model: ExportedModel, dataset: dict[str, Any], index: int, folder: Path, min_score: float
) -> Predicted:
    """Predict on a test picture of ``dataset``, and draw the prediction (left) beside the truth (right)."""
    pictures = build(dataset, "test")
    if index >= len(pictures):
        raise UserError(f"--dataset-index is {index}, but there are {len(pictures)} test pictures; give a smaller one")
    example = pictures[index]
    people = model.predict(example.image, min_score)
    sides = [enlarged_drawing(example.image, poses, model) for poses in (people.poses, example.people)]
    name = f"test_{index}.png"
    save_png(folder / name, contact_sheet(sides, 2))
    size = (example.image.shape[1], example.image.shape[0])
    return Predicted(f"test picture {index} of the {dataset['kind']} data set", name, size, people)


def _free_name(stem: str, taken: set[str]) -> str:
    """Return ``stem``.png, or with a number if another picture has it; remembered in ``taken``."""
    name, number = f"{stem}.png", 2
    while name.lower() in taken:
        name, number = f"{stem}_{number}.png", number + 1
    taken.add(name.lower())
    return name
