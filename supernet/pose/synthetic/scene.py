"""Built-in scenes: who stands where, what stands in front of them, and which landmarks remain in view."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from supernet.pose.synthetic.appearance import cloth_colours, sample_looks
from supernet.pose.synthetic.body_parts import LANDMARKS, PARTS, carriers, near_by
from supernet.pose.synthetic.figures import Figure, Part, build_figures
from supernet.pose.synthetic.shapes import CIRCLE, SHIFT, Floats, box, shrunk, to_fixed_point
from supernet.pose.synthetic.skeleton import sample_skeletons

# Identity of whatever stands in front of people and is none; up to 13 people of 19 parts stay below it.
OBJECT: Final = 255
# A person with fewer limb landmarks in view than this is left out of the image.
_LEAST_VISIBLE: Final = 4
_LIMBS: Final = slice(LANDMARKS.index("left_shoulder"), LANDMARKS.index("right_ankle") + 1)
_CARRIERS: Final = carriers()
_NEAR_BY: Final = near_by()


@dataclass(frozen=True)
class Scene:
    """What is in one image.

    Attributes:
        rng: Source of randomness, for what the drawing still decides.
        size: Width and height in pixels.
        horizon: Height of the horizon in the image, in pixels from its top.
        light: (2,) direction the light comes from, in the image.
        figures: The people.
        layers: Parts of people and objects from the farthest to the nearest.
        owners: (H, W) uint8, the identity of the part seen at each pixel; 0 is background.
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
        """Box (x, y, width, height) and number of the pixels that show this person, in pixels."""
        first = self.figures[person].first_identity
        mine = cv2.inRange(self.owners, first, first + len(PARTS) - 1)
        x, y, width, height = cv2.boundingRect(mine)
        return x, y, width, height, int(cv2.countNonZero(mine))


def _place(rng: np.random.Generator, width: int, height: int) -> tuple[Floats, Floats, float]:
    """Feet (P, 2) and statures (P,) in pixels, farthest person first, and the horizon."""
    unit = min(width, height) / 192
    kind = rng.choice(5, p=[0.25, 0.27, 0.20, 0.20, 0.08])
    least, most, usual = (
        (1, 1, (110, 185)),
        (2, 2, (100, 178)),
        (3, 4, (90, 165)),
        (4, 6, (75, 150)),
        (1, 3, (160, 250)),
    )[kind]
    count = int(rng.integers(least, most + 1))
    base = unit * rng.uniform(*usual)
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
    # All stand on one plane: feet are lower in the image in proportion to how much nearer a person is.
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
    """Things that may stand in front of people, each with the stature of a person at its distance."""
    things = []
    for _ in range(int(rng.choice(4, p=[0.45, 0.32, 0.16, 0.07]))):
        target = int(rng.integers(len(statures)))
        stature = float(statures[target])
        colour = cloth_colours(rng, 1)[0]
        centre = feet[target] + stature * np.array([rng.normal(0, 0.22), -rng.uniform(0.05, 0.9)])
        kind, tilt = int(rng.integers(4)), float(rng.normal(0, 8))
        if kind == 0:  # Box or piece of furniture.
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
        things.append((stature * rng.uniform(0.9, 1.2), Part(OBJECT, (outline,), fills)))
    return things


def _owners(layers: tuple[Part, ...], width: int, height: int) -> npt.NDArray[np.uint8]:
    owners = np.zeros((height, width), dtype=np.uint8)
    for part in layers:
        for outline in part.outlines:
            cv2.fillConvexPoly(owners, outline, (part.identity,), cv2.LINE_8, SHIFT)
    return owners


def _visibility(figures: list[Figure], owners: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(P, 19): 0 outside the image or not labelled, 1 hidden, 2 visible.

    Hidden landmarks are labelled as annotators do it: where one near by is in view, from which their place can be told.
    So 13 in 100 labelled ones are hidden, as was found in a sample of COCO; with all of them it would be 20.
    """
    height, width = owners.shape
    # In the precision of the annotations, so that none is rounded onto the border.
    x, y = np.stack([figure.landmarks for figure in figures]).astype(np.float32).transpose(2, 0, 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = np.where(inside, x, 0).astype(np.int64), np.where(inside, y, 0).astype(np.int64)
    part = owners[row, column].astype(np.int64) - np.array([figure.first_identity for figure in figures])[:, None]
    own = (part >= 0) & (part < len(PARTS))
    seen = own & _CARRIERS[np.arange(len(LANDMARKS)), np.where(own, part, 0)]
    # The torso lies over its own far shoulder and hip, but also over the near ones.
    seen &= ~np.stack([figure.behind for figure in figures])
    may_be = inside & np.stack([figure.labelled for figure in figures])
    seen &= may_be
    labelled = may_be & (seen | seen @ _NEAR_BY)
    visibility: npt.NDArray[np.int64] = labelled * (1 + seen.astype(np.int64))
    return visibility


def _attempt(rng: np.random.Generator, width: int, height: int) -> Scene | None:
    """A scene, or nothing where all its people turned out hidden."""
    feet, statures, horizon = _place(rng, width, height)
    count = len(statures)
    turned = rng.choice(5, count, p=[0.72, 0.10, 0.06, 0.06, 0.06])  # Front, back, left, right, any.
    yaw = np.array([0.0, 180.0, 90.0, -90.0, 0.0])[turned] + rng.normal(0, 22, count)
    yaw = np.where(turned == 4, rng.uniform(-180, 180, count), yaw)
    angle = rng.uniform(0.15, 0.85) * np.pi
    light = np.array([np.cos(angle), -np.sin(angle)])
    skeletons = sample_skeletons(rng, count, yaw, float(rng.normal(7, 7)))
    figures = build_figures(skeletons, sample_looks(rng, count), feet, statures, light)
    things = _objects(rng, feet, statures, width, height)
    while figures:
        near = [*((figure.stature, figure.parts) for figure in figures), *((near, (thing,)) for near, thing in things)]
        layers = tuple(part for _, parts in sorted(near, key=lambda entry: entry[0]) for part in parts)
        owners = _owners(layers, width, height)
        visibility = _visibility(figures, owners)
        kept = (visibility[:, _LIMBS] == 2).sum(axis=1) >= _LEAST_VISIBLE
        if kept.all():
            return Scene(rng, (width, height), horizon, light, tuple(figures), layers, owners, visibility)
        figures = [figure for figure, keep in zip(figures, kept, strict=True) if keep]
    return None


def sample_scene(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Draws a scene for an image of ``width`` by ``height`` pixels, of people who can all be seen at least in part.

    Raises:
        RuntimeError: Fifty scenes in a row showed nobody.
    """
    for _ in range(50):
        scene = _attempt(rng, width, height)
        if scene is not None:
            return scene
    raise RuntimeError(f"no scene of {width} x {height} pixels shows anybody; take larger images")
