"""Trunks of the built-in people: torso, pelvis and skirt, as hulls of discs around points of the skeleton."""

from dataclasses import dataclass

import numpy as np

from supernet.pose.synthetic.appearance import BARE, DARK, FRONT, PLAIN, SHIRT, TROUSERS, Looks
from supernet.pose.synthetic.body_parts import TORSO, TORSO_RADII
from supernet.pose.synthetic.head import Painting, Tones
from supernet.pose.synthetic.shapes import Floats, discs, hull, shrunk, to_fixed_point
from supernet.pose.synthetic.skeleton import POINT


@dataclass(frozen=True)
class Trunks:
    """P trunks in the image, in pixels.

    Attributes:
        points: (P, 8, 2) positions of ``TORSO``.
        discs: (P, 8, 12, 2) outlines around them.
        hem: (P, 2, 12, 2) outlines around the left and right end of a skirt.
        chest: (P, 3, 3) rotations of the chests.
        statures: (P,) heights of the people when standing.
    """

    points: Floats
    discs: Floats
    hem: Floats
    chest: Floats
    statures: Floats

    def slant(self, person: int) -> float:
        """Degrees by which a trunk leans to the right in the image."""
        lean = self.points[person, 2] - self.points[person, 6:].mean(axis=0)
        return float(np.rad2deg(np.arctan2(lean[0], -lean[1])))


def place_trunks(points: Floats, chest: Floats, girths: Floats, statures: Floats) -> Trunks:
    """Project P trunks into the image.

    Args:
        points: (P, N, 2) points of the skeletons in pixels.
        chest: (P, 3, 3) rotations of the chests.
        girths: (P,) thickness of the bodies relative to the average.
        statures: (P,) heights of the people when standing, in pixels.
    """
    trunk = points[:, [POINT[name] for name in TORSO]]
    radii = TORSO_RADII * statures[:, None] * girths[:, None]
    hem = trunk[:, 6:8] + 0.8 * (points[:, [POINT["left_knee"], POINT["right_knee"]]] - trunk[:, 6:8])
    return Trunks(trunk, discs(trunk, radii), discs(hem, 1.15 * radii[:, 6:8]), chest, statures)


def paint_trunk(trunks: Trunks, person: int, looks: Looks, tones: Tones, light: Floats) -> dict[str, Painting]:
    """The outlines and fills of one person's torso, pelvis and, if the person wears one, skirt.

    Args:
        trunks: All trunks in the image.
        person: Index of the person.
        looks: Appearance of all people.
        tones: Colours of the person by role and tone.
        light: (2,) direction towards the light, in the image.
    """
    around, stature = trunks.discs[person], trunks.statures[person]
    shine, shirt, hips = 0.016 * stature * light, tones[SHIRT], tones[TROUSERS]
    hulls = hull(around[:5]), hull(around[3:]), hull(around[6:])
    upper, lower, seat = (to_fixed_point(shape) for shape in hulls)
    lit_upper, lit_lower, lit_seat = (to_fixed_point(shrunk(shape, 0.74, shine)) for shape in hulls)
    torso = [(lower, shirt[DARK]), (upper, shirt[DARK]), (lit_lower, shirt[PLAIN]), (lit_upper, shirt[PLAIN])]
    half, axes = float(looks.front[person]), trunks.chest[person]
    if half > 0 and axes[2, 2] > 0.2:
        corners = np.array([[-half, 0.155, 0.055], [half, 0.155, 0.055], [half, -0.07, 0.06], [-half, -0.07, 0.06]])
        strip = (corners @ axes.T)[:, :2] * np.array([1.0, -1.0]) * stature
        torso.append((to_fixed_point(trunks.points[person, 5] + strip), tones[FRONT][PLAIN]))
    painted: dict[str, Painting] = {
        "torso": ([upper, lower], torso),
        "pelvis": ([seat], [(seat, hips[DARK]), (lit_seat, hips[PLAIN])]),
    }
    if looks.legs[person] == BARE:
        cloth = hull(np.concatenate([around[6:], trunks.hem[person]]))
        skirt, lit_skirt = to_fixed_point(cloth), to_fixed_point(shrunk(cloth, 0.76, shine))
        painted["skirt"] = [skirt], [(skirt, hips[DARK]), (lit_skirt, hips[PLAIN])]
    return painted
