"""Projects dressed skeletons into the image: body parts as outlines and fills, and landmarks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supernet.pose.synthetic.appearance import BARE, LONG, SHORT, Looks
from supernet.pose.synthetic.body_parts import LANDMARKS, PART, PARTS, nearness_of_parts
from supernet.pose.synthetic.head import FACE_LANDMARKS, Fill, Heads, Tones, paint_head, place_heads
from supernet.pose.synthetic.limbs import paint_limbs, place_limbs
from supernet.pose.synthetic.shapes import Floats, Outline
from supernet.pose.synthetic.skeleton import POINT, Skeletons
from supernet.pose.synthetic.trunk import paint_trunk, place_trunks


@dataclass(frozen=True)
class Part:
    """A body part or object to draw: the outlines of its silhouette, and the fills that paint it."""

    identity: int
    outlines: tuple[Outline, ...]
    fills: tuple[Fill, ...]


@dataclass(frozen=True)
class Figure:
    """One person in the image.

    Attributes:
        first_identity: Identity of the person's part 0; part i of ``PARTS`` has ``first_identity + i``.
        parts: Parts from the farthest to the nearest.
        landmarks: (19, 2) positions of ``LANDMARKS`` in pixels.
        labelled: (19,) whether an annotator would label the landmark at all.
        behind: (19,) whether the person's own torso hides the landmark although it lies on it.
        stature: Height in pixels of the person standing.
        slant: Degrees by which the trunk leans to the right in the image.
        shirt: Texture number of the shirt (negative for none), and the last part that it covers.
        trousers: The same for the trousers.
    """

    first_identity: int
    parts: tuple[Part, ...]
    landmarks: Floats
    labelled: npt.NDArray[np.bool_]
    behind: npt.NDArray[np.bool_]
    stature: float
    slant: float
    shirt: tuple[int, str]
    trousers: tuple[int, str]


def build_figures(skeletons: Skeletons, looks: Looks, feet: Floats, statures: Floats, light: Floats) -> list[Figure]:
    """Project P people into the image.

    Args:
        skeletons: Bodies.
        looks: Appearance.
        feet: (P, 2) position of each person's lowest point, below the pelvis, in pixels.
        statures: (P,) heights of the people when standing, in pixels.
        light: (2,) direction towards the light, in the image.
    """
    depth, points = skeletons.points[..., 2], _projected(skeletons, feet, statures)
    limbs = place_limbs(points, skeletons.head_size, looks.girth, statures, light)
    trunks = place_trunks(points, skeletons.chest, looks.girth, statures)
    heads = place_heads(points[:, POINT["head_centre"]], skeletons.head, statures * skeletons.head_size, light)
    nearness = nearness_of_parts(depth)
    body = [POINT[name] for name in LANDMARKS[len(FACE_LANDMARKS) :]]
    landmarks = np.concatenate([heads.features[:, : len(FACE_LANDMARKS)], points[:, body]], axis=1)
    labelled, behind = _labelled(heads, looks), _behind(depth)
    figures = []
    palette = [[[(t[0], t[1], t[2]) for t in role] for role in person] for person in looks.colours.tolist()]
    for person in range(len(statures)):
        tones: Tones = palette[person]
        painted = paint_limbs(limbs, person, looks, tones) | paint_trunk(trunks, person, looks, tones, light)
        has_long_hair, has_hat = bool(looks.long_hair[person]), bool(looks.hat[person])
        painted["head"] = paint_head(heads, person, tones, covered_ears=has_long_hair, hat=has_hat)
        first = 1 + person * len(PARTS)
        order = [name for row in np.argsort(nearness[person], kind="stable") if (name := PARTS[row]) in painted]
        last_of_legs = {BARE: "skirt", SHORT: "pelvis", LONG: "right_shin"}[int(looks.legs[person])]
        figures.append(
            Figure(
                first_identity=first,
                parts=tuple(
                    Part(first + PART[name], tuple(painted[name][0]), tuple(painted[name][1])) for name in order
                ),
                landmarks=landmarks[person],
                labelled=labelled[person],
                behind=behind[person],
                stature=float(statures[person]),
                slant=trunks.slant(person),
                shirt=(int(looks.shirt_texture[person]), "right_forearm" if looks.sleeves[person] == LONG else "torso"),
                trousers=(int(looks.trousers_texture[person]), last_of_legs),
            ),
        )
    return figures


def _projected(skeletons: Skeletons, feet: Floats, statures: Floats) -> Floats:
    """Return the points of the skeletons in the image, (P, N, 2); the arguments are those of ``build_figures``."""
    # A mild perspective: nearer parts are slightly larger.
    flat = skeletons.points[..., :2] * np.array([1.0, -1.0]) * (1 + 0.12 * skeletons.points[..., 2, None])
    drop = flat[..., 1].max(axis=1) + 0.02
    offset = feet - np.stack([np.zeros(len(statures)), drop * statures], axis=-1)
    points: Floats = flat * statures[:, None, None] + offset[:, None]
    return points


def _labelled(heads: Heads, looks: Looks) -> npt.NDArray[np.bool_]:
    """Return which landmarks an annotator would label, (P, 19): not the far side of a face, nor ears under hair."""
    labelled = np.ones((len(heads.facing), len(LANDMARKS)), dtype=np.bool_)
    labelled[:, : len(FACE_LANDMARKS)] = heads.labelled()
    labelled[:, 3:5] &= ~looks.long_hair[:, None]
    return labelled


def _behind(depth: Floats) -> npt.NDArray[np.bool_]:
    """Return which landmarks the own torso hides, (P, 19), from the depths (P, N) of all points of the skeletons."""
    behind = np.zeros((len(depth), len(LANDMARKS)), dtype=np.bool_)
    for side in ("left", "right"):  # Hidden when turned about 40 degrees away.
        for name, middle, distance in ((f"{side}_shoulder", "chest", 0.077), (f"{side}_hip", "pelvis", 0.045)):
            behind[:, LANDMARKS.index(name)] = depth[:, POINT[name]] < depth[:, POINT[middle]] - distance
    return behind
