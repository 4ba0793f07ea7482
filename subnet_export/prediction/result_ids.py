"""Ids of images and of the category that COCO results carry, so that they can be compared with annotations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from subnet_export.prediction.sources import Source
from supernet.errors import UserError
from supernet.pose.coco.annotations import read_content
from supernet.pose.coco.categories import CategoryFault, choose_category
from supernet.pose.coco.splits import category_name
from supernet.pose.data.pose_dataset import ImageId
from supernet.pose.keypoints import KeypointSet


@dataclass(frozen=True)
class ResultIds:
    """Ids of results.

    Attributes:
        images: By the name of their source; other images are counted from 1.
        category: Of people.
    """

    images: Mapping[str, ImageId]
    category: int | str


def ids_from_names(sources: Sequence[Source]) -> dict[str, ImageId]:
    """Return COCO's image ids by file name, if every file name is one: that of ``000000000139.jpg`` is 139.

    Empty unless all sources are images whose names are distinct whole numbers.
    """
    names = [source.name for source in sources if source.kind == "image" and Path(source.name).stem.isdecimal()]
    ids: dict[str, ImageId] = {name: int(Path(name).stem) for name in names}
    return ids if len(set(ids.values())) == len(sources) else {}


def ids_of_annotations(path: Path, sources: Sequence[Source], keypoints: KeypointSet, category: Any) -> ResultIds:
    """Return the ids that an annotation file gives to images, by the names of their files, and to people.

    Args:
        path: The annotation file.
        sources: The images.
        keypoints: Those of the people.
        category: Name of the annotated category, as in the description of a data set.

    Raises:
        UserError: The file cannot be read, or lists no image, or several, of a source's name.
    """
    content = read_content(path)
    listed = content.images.table(None, lambda _: None)
    try:
        annotated = choose_category(content.categories, (), keypoints, category_name(category))
    except CategoryFault as error:
        raise UserError(f"annotation file {path}: {error.fault.place} {error.fault.rule}") from error
    by_name: dict[str, list[tuple[tuple[str, ...], ImageId]]] = {}
    for image in (listed[row] for row in range(len(listed))):
        parts = PurePath(image.file_name).parts
        by_name.setdefault(parts[-1], []).append((parts, image.own_id))
    ids = {}
    for source in sources:
        parts = Path(source.name).absolute().parts
        same = [(own, number) for own, number in by_name.get(parts[-1], []) if parts[-len(own) :] == own]
        longest = max((len(own) for own, _ in same), default=0)
        best = [number for own, number in same if len(own) == longest]
        if source.kind != "image" or len(best) != 1:
            raise UserError(
                f"annotation file {path} must list {source.name} once, but lists {len(best)} images of that name; give "
                "images that it lists, or leave out --annotations"
            )
        ids[source.name] = best[0]
    return ResultIds(ids, annotated.entry["id"])
