"""Makes ``decode/people.json``: lists of detections and the people in them, for the decoders in every language.

The people are those of :func:`supernet.pose.grouping.group` on maps that are empty but for one pixel per detection, so
no decoder's own code is involved: ``python -m tests.golden.decode_recipe``.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.pose.grouping import group, matching_order
from supernet.pose.inference import InferenceSettings

FILE = Path(__file__).parent / "decode" / "people.json"
STEP = 3
"""Distance of the pixels, so that each is a maximum of its own in squares of 5 pixels."""
COLUMNS = 40
FAR = 1e6
"""The tag of empty pixels, so that filling in never takes one."""

Floats = npt.NDArray[np.float32]
CASES: tuple[tuple[str, int, int, int, dict[str, Any]], ...] = (
    ("nobody", 5, 6, 0, {}),
    ("one person", 17, 8, 1, {}),
    ("a few people", 17, 12, 5, {}),
    ("a crowd", 14, 30, 26, {}),
    ("more keypoints than COCO", 20, 6, 3, {}),
    ("more people than may be joined", 6, 12, 9, {"max_people": 4}),
    ("without filling in", 17, 10, 4, {"refine": False}),
    ("as published", 17, 16, 9, {"matching": "reference"}),
    ("as published, few may be joined", 6, 16, 9, {"matching": "reference", "max_people": 5}),
    ("other thresholds", 8, 10, 6, {"detection_threshold": 0.3, "tag_threshold": 1.7}),
)
"""Name, keypoints, places in the list, people, and settings that are not the default."""


def detections(num_keypoints: int, num_places: int, num_people: int, seed: int) -> Floats:
    """Return detections (K, M, 4) of people, many of whose tags are closer than rounding can tell apart."""
    random = np.random.RandomState(seed)
    highest = 0.3 if num_people else 0.1
    means = np.cumsum(random.choice([0.2, 0.45, 0.9, 1.6], num_people)) - 2
    result = np.zeros((num_keypoints, num_places, 4), np.float32)
    for entries in result:
        is_seen = random.uniform(size=num_people) < 0.75
        num_faint = random.randint(0, num_places + 1)
        values = np.concatenate([random.uniform(0.1, 1.0, is_seen.sum()), random.uniform(0.001, highest, num_faint)])
        tags = np.concatenate([means[is_seen], random.uniform(-3, 1 + sum(means[-1:]), num_faint)])
        tags += random.normal(0, 0.15, len(tags))
        order = np.argsort(-values)[:num_places]
        entries[: len(order), :2] = random.uniform(0, 512, (len(order), 2))
        entries[: len(order), 2], entries[: len(order), 3] = values[order], tags[order]
    return np.round(result, 4)


def people(entries: Floats, settings: InferenceSettings) -> tuple[Floats, Floats]:
    """Return the poses (P, K, 3) and scores (P,) of detections (K, M, 4)."""
    num_keypoints, num_places, _ = entries.shape
    rows = -(-num_places // COLUMNS) * STEP
    heat = np.zeros((num_keypoints, rows, COLUMNS * STEP), np.float32)
    tag = np.full((*heat.shape, 1), FAR, np.float32)
    places = np.divmod(np.arange(num_places), COLUMNS)
    for keypoint, column in enumerate(entries):
        assert len(np.unique(column[column[:, 2] > 0, 2])) == (column[:, 2] > 0).sum()  # no order to choose
        heat[keypoint, places[0] * STEP, places[1] * STEP] = column[:, 2]
        tag[keypoint, places[0] * STEP, places[1] * STEP, 0] = np.where(column[:, 2] > 0, column[:, 3], FAR)
    options: dict[str, Any] = {**settings.grouping, "adjust": False}
    poses, scores = group(heat, tag, **options)
    for pose in poses:
        for found in np.flatnonzero(pose[:, 2] > 0):
            column_index, row_index = ((pose[found, :2] - 0.5).astype(int) // STEP).tolist()
            pose[found, :2] = entries[found, row_index * COLUMNS + column_index, :2]
    return poses, scores


def main() -> None:
    """Write the file."""
    cases = []
    for seed, (name, num_keypoints, num_places, num_people, changes) in enumerate(CASES):
        settings = InferenceSettings(**changes)
        entries = detections(num_keypoints, num_places, num_people, seed)
        poses, scores = people(entries, settings)
        cases.append(
            {
                "name": name,
                "decoder": {"keypoint_order": matching_order(num_keypoints), "inference": asdict(settings)},
                "detections": entries.astype(float).round(4).tolist(),
                "poses": poses.astype(float).round(4).tolist(),
                "scores": scores.astype(float).round(7).tolist(),
            }
        )
    FILE.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    FILE.write_text(f'{{"cases":[\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
