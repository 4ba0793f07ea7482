"""Keypoint sets: names, mirror pairs, skeleton and OKS sigmas; the two built-in ones.

Source: COCO's annotation format and evaluation constants (17 keypoints); CrowdPose, arXiv 1812.00324, and its published
evaluation (14 keypoints).
"""

from dataclasses import dataclass, field
from typing import Any

from supernet.errors import UserError, first_few

MAX_KEYPOINTS = 1000
"""Keypoints in one set."""


@dataclass(frozen=True)
class KeypointSet:
    """K keypoints in annotation order.

    Attributes:
        name: Name of the set; those of the built-in sets are reserved.
        names: K keypoint names.
        sigmas: K standard deviations of the object keypoint similarity (OKS), relative to sqrt(a person's area).
        flip_pairs: Indices (left, right) that are swapped when an image is mirrored.
        skeleton: Pairs of indices that a drawing connects.
        area_from_box: Annotation files hold no segment area; 0.53 * width * height of the box takes its place.
        unpaired: Names of keypoints that are in no pair, though perhaps not their own mirror images; see ``mirrors``.
    """

    name: str
    names: tuple[str, ...]
    sigmas: tuple[float, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    skeleton: tuple[tuple[int, int], ...]
    area_from_box: bool = False
    unpaired: tuple[str, ...] = field(default=(), compare=False)

    @property
    def num(self) -> int:
        """Number of keypoints, K."""
        return len(self.names)

    @property
    def mirrors(self) -> bool:
        """Whether the mirror image of every keypoint is known, so that images can be mirrored."""
        return not self.unpaired

    @property
    def unpaired_text(self) -> str:
        """The keypoints without a known mirror image, the first few by name."""
        return first_few(self.unpaired)

    @property
    def flip_index(self) -> tuple[int, ...]:
        """Permutation of K indices: entry k of a mirrored image is entry ``flip_index[k]`` of the image."""
        index = list(range(self.num))
        for left, right in self.flip_pairs:
            index[left], index[right] = right, left
        return tuple(index)

    @property
    def sides(self) -> tuple[str, ...]:
        """The side of each of the K keypoints: "left", "right" or "", by ``flip_pairs``."""
        sides = [""] * self.num
        for left, right in self.flip_pairs:
            sides[left], sides[right] = "left", "right"
        return tuple(sides)

    def to_plain(self) -> str | dict[str, Any]:
        """Return the name of a built-in set, or a description that ``custom_keypoints.from_plain`` reads."""
        return self.name if _SETS.get(self.name) == self else self.described()

    def described(self) -> dict[str, Any]:
        """Return all fields as plain values, pairs by name."""
        unpaired = {"unpaired": list(self.unpaired)} if self.unpaired else {}
        return {
            "name": self.name,
            "names": list(self.names),
            "sigmas": list(self.sigmas),
            "flip_pairs": [[self.names[end] for end in pair] for pair in self.flip_pairs],
            "skeleton": [[self.names[end] for end in bone] for bone in self.skeleton],
            "area_from_box": self.area_from_box,
            **unpaired,
        }

    def difference(self, other: "KeypointSet") -> str | None:
        """Return the first field that matters to a network or to AP and differs; None if only drawings or names do."""
        equal = {
            "names": self.names == other.names,
            "sigmas": self.sigmas == other.sigmas,
            "flip_pairs": self.flip_index == other.flip_index,
            "area_from_box": self.area_from_box == other.area_from_box,
        }
        return next((name for name, is_equal in equal.items() if not is_equal), None)

    def for_network(self, network: "KeypointSet") -> "KeypointSet":
        """Return ``network``, the keypoints of a network, unless their ``difference`` matters."""
        return self if self.difference(network) else network


COCO = KeypointSet(
    name="coco",
    names=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    sigmas=(
        *(0.026, 0.025, 0.025, 0.035, 0.035),
        *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
        *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    skeleton=(
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8)),
        *((7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    ),
)

CROWDPOSE = KeypointSet(
    name="crowdpose",
    names=(
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
        "head",
        "neck",
    ),
    sigmas=(
        *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
        *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
    ),
    flip_pairs=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)),
    skeleton=(
        *((12, 13), (13, 0), (13, 1), (0, 2), (2, 4), (1, 3), (3, 5)),
        *((0, 6), (1, 7), (6, 7), (6, 8), (8, 10), (7, 9), (9, 11)),
    ),
    area_from_box=True,
)

_SETS = {keypoints.name: keypoints for keypoints in (COCO, CROWDPOSE)}
BUILT_IN = tuple(_SETS)


def keypoint_set(name: str) -> KeypointSet:
    """Return the built-in keypoint set called ``name``, "coco" or "crowdpose".

    Raises:
        UserError: There is no such set.
    """
    if name not in _SETS:
        raise UserError(f"keypoint set {name!r} is unknown; choose among {', '.join(_SETS)}")
    return _SETS[name]
