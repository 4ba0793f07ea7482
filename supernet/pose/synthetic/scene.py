"""Random scenes: positions of people, objects in front of them, and visibility of landmarks."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from supernet.pose.synthetic.appearance import cloth_colours, sample_looks
from supernet.pose.synthetic.body_parts import LANDMARKS, PARTS, carriers, neighbouring_landmarks
from supernet.pose.synthetic.figures import Figure, Part, build_figures
from supernet.pose.synthetic.shapes import CIRCLE, SHIFT, Floats, box, shrunk, to_fixed_point
from supernet.pose.synthetic.skeleton import sample_skeletons

# Identity of objects in front of people; the identities of up to 13 people with 19 parts are below it.
OBJECT: Final = 255
# A person with fewer visible limb landmarks is removed from the scene.
_MIN_VISIBLE: Final = 4
_LIMBS: Final = slice(LANDMARKS.index("left_shoulder"), LANDMARKS.index("right_ankle") + 1)
_CARRIERS: Final = carriers()
_NEIGHBOURS: Final = neighbouring_landmarks()


@dataclass(frozen=True)
class Scene:
    """The contents of one image.

    Attributes:
        rng: Random generator for the decisions left to drawing.
        size: Width and height in pixels.
        horizon: Height of the horizon in the image, in pixels from its top.
        light: (2,) direction towards the light, in the image.
        figures: The people.
        layers: Parts of people and objects from the farthest to the nearest.
        owners: (H, W) uint8, identity of the visible part at each pixel; 0 is background.
        visibility: (P, 19) COCO visibility of each person's landmarks: 0 not labelled, 1 hidden, 2 visible.
    """

    rng: np.random.Generator
    size: tuple[int, int]
    horizon: float
    light: Floats
    figures: tuple[Figure, ...]
    layers: tuple[Part, ...]
    owners: npt.NDArray[np.uint8]
    visibility: npt.NDArray[np.int64]

    def silhouette(self, person: int) -> tuple[int, int, int, int, int]:
        """Box (x, y, width, height) and number of the visible pixels of this person."""
        first = self.figures[person].first_identity
        silhouette = cv2.inRange(self.owners, first, first + len(PARTS) - 1)
        x, y, width, height = cv2.boundingRect(silhouette)
        return x, y, width, height, int(cv2.countNonZero(silhouette))


def _place_people(rng: np.random.Generator, width: int, height: int) -> tuple[Floats, Floats, float]:
    """Draw feet (P, 2) and statures (P,) in pixels, farthest person first, and the height of the horizon."""
    unit = min(width, height) / 192
    kind = rng.choice(5, p=[0.25, 0.27, 0.20, 0.20, 0.08])
    least, most, stature_range = (
        (1, 1, (110, 185)),
        (2, 2, (100, 178)),
        (3, 4, (90, 165)),
        (4, 6, (75, 150)),
        (1, 3, (160, 250)),
    )[kind]
    count = int(rng.integers(least, most + 1))
    base = unit * rng.uniform(*stature_range)
    statures = base * np.exp(rng.normal(0, 0.16, count))
    tight = rng.random() < 0.3
    gap = (rng.uniform(0.08, 0.28, count) if tight else rng.uniform(0.2, 0.75, count)) * base
    x = np.cumsum(gap)
    x += width * rng.uniform(0.28, 0.72) - x.mean() if count > 1 else width * rng.uniform(0.15, 0.85) - x
    x = np.where((x < -4) | (x > width + 4), rng.uniform(0.02, 0.98, count) * width, x)
    rng.shuffle(x)
    if kind == 4:
        ground = base * rng.uniform(0.85, 1.0) + rng.uniform(0.0, 0.12) * height
    else:
        ground = rng.uniform(min(0.98 * base, 0.9 * height), 1.06 * height)
    # All stand on one plane: the nearer a person, the lower their feet in the image.
    rise = rng.uniform(0.4, 1.7)
    far = int(rng.integers(1, 4)) if rng.random() < 0.15 and count < 5 else 0
    statures = np.concatenate([statures, unit * rng.uniform(22, 46, far)])
    x = np.concatenate([x, rng.uniform(0.03, 0.97, far) * width])
    feet = ground + rise * (statures - base) + rng.normal(0, 0.02, count + far) * base
    feet = np.maximum(feet, 0.75 * statures)
    order = np.argsort(statures, kind="stable")
    return np.stack([x, feet], axis=-1)[order], statures[order], float(ground - rise * base)


def _objects(
    rng: np.random.Generator, feet: Floats, statures: Floats, width: int, height: int
) -> list[tuple[float, Part]]:
    """Draw objects in front of people, each with the stature of a person at its distance."""
    objects = []
    for _ in range(int(rng.choice(4, p=[0.45, 0.32, 0.16, 0.07]))):
        target = int(rng.integers(len(statures)))
        stature = float(statures[target])
        colour = cloth_colours(rng, 1)[0]
        centre = feet[target] + stature * np.array([rng.normal(0, 0.22), -rng.uniform(0.05, 0.9)])
        kind, tilt = int(rng.integers(4)), float(rng.normal(0, 8))
        if kind == 0:  # Box or furniture.
            shape = box(centre, stature * rng.uniform(0.15, 0.5), stature * rng.uniform(0.12, 0.4), tilt)
        elif kind == 1:  # Pole.
            centre[1] = height * rng.uniform(0.2, 0.8)
            shape = box(centre, stature * rng.uniform(0.025, 0.09), height * rng.uniform(0.5, 1.5), tilt)
        elif kind == 2:  # Ball, bush.
            shape = centre + stature * rng.uniform(0.06, 0.2, 2) * CIRCLE
        else:  # Rail, table, wall.
            length = stature * rng.uniform(0.5, 1.6)
            shape = box(centre, length, stature * rng.uniform(0.03, 0.16), tilt)
        inner = shrunk(shape, 0.86, np.zeros(2))
        dark, plain = (0.7 * colour).tolist(), colour.tolist()
        outline = to_fixed_point(shape)
        fills = ((outline, (dark[0], dark[1], dark[2])), (to_fixed_point(inner), (plain[0], plain[1], plain[2])))
        objects.append((stature * rng.uniform(0.9, 1.2), Part(OBJECT, (outline,), fills)))
    return objects


def _owners(layers: tuple[Part, ...], width: int, height: int) -> npt.NDArray[np.uint8]:
    """The identity of the visible part at each pixel (H, W)."""
    owners = np.zeros((height, width), dtype=np.uint8)
    for part in layers:
        for outline in part.outlines:
            cv2.fillConvexPoly(owners, outline, (part.identity,), cv2.LINE_8, SHIFT)
    return owners


def _visibility(figures: list[Figure], owners: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(P, 19): 0 outside the image or not labelled, 1 hidden, 2 visible.

    Hidden landmarks are labelled as by human annotators: only if a visible neighbour shows where they must be. This way
    13 in 100 labelled landmarks are hidden, as in a sample of COCO; if all were labelled, it would be 20.
    """
    height, width = owners.shape
    # With the precision of the annotations, so that no landmark is rounded onto the border.
    x, y = np.stack([figure.landmarks for figure in figures]).astype(np.float32).transpose(2, 0, 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = np.where(inside, x, 0).astype(np.int64), np.where(inside, y, 0).astype(np.int64)
    part = owners[row, column].astype(np.int64) - np.array([figure.first_identity for figure in figures])[:, None]
    own = (part >= 0) & (part < len(PARTS))
    visible = own & _CARRIERS[np.arange(len(LANDMARKS)), np.where(own, part, 0)]
    # The torso covers its own far shoulder and hip, but also the near ones.
    visible &= ~np.stack([figure.behind for figure in figures])
    can_be_labelled = inside & np.stack([figure.labelled for figure in figures])
    visible &= can_be_labelled
    labelled = can_be_labelled & (visible | visible @ _NEIGHBOURS)
    visibility: npt.NDArray[np.int64] = labelled * (1 + visible.astype(np.int64))
    return visibility


def _try_scene(rng: np.random.Generator, width: int, height: int) -> Scene | None:
    """Draw a scene; None if all its people turn out to be hidden."""
    feet, statures, horizon = _place_people(rng, width, height)
    count = len(statures)
    turned = rng.choice(5, count, p=[0.72, 0.10, 0.06, 0.06, 0.06])  # Front, back, left, right, any.
    yaw = np.array([0.0, 180.0, 90.0, -90.0, 0.0])[turned] + rng.normal(0, 22, count)
    yaw = np.where(turned == 4, rng.uniform(-180, 180, count), yaw)
    angle = rng.uniform(0.15, 0.85) * np.pi
    light = np.array([np.cos(angle), -np.sin(angle)])
    skeletons = sample_skeletons(rng, count, yaw, float(rng.normal(7, 7)))
    figures = build_figures(skeletons, sample_looks(rng, count), feet, statures, light)
    objects = _objects(rng, feet, statures, width, height)
    while figures:
        by_stature = [(figure.stature, figure.parts) for figure in figures]
        by_stature += [(stature, (part,)) for stature, part in objects]
        layers = tuple(part for _, parts in sorted(by_stature, key=lambda entry: entry[0]) for part in parts)
        owners = _owners(layers, width, height)
        visibility = _visibility(figures, owners)
        is_seen = (visibility[:, _LIMBS] == 2).sum(axis=1) >= _MIN_VISIBLE
        if is_seen.all():
            return Scene(rng, (width, height), horizon, light, tuple(figures), layers, owners, visibility)
        figures = [figure for figure, seen in zip(figures, is_seen, strict=True) if seen]
    return None


def sample_scene(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Draw a scene of ``width`` by ``height`` pixels in which every person is at least partly visible.

    Raises:
        RuntimeError: In fifty scenes in a row no person was visible.
    """
    for _ in range(50):
        scene = _try_scene(rng, width, height)
        if scene is not None:
            return scene
    raise RuntimeError(f"no scene of {width} x {height} pixels shows a person; use larger images")
