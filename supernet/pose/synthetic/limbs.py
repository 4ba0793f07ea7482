"""Limbs, necks, long hair and backpacks of the built-in people: tapered bars, with cuffs where the clothes end."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supernet.pose.synthetic.appearance import (
    BACKPACK,
    DARK,
    HAIR,
    LONG,
    PLAIN,
    SHIRT,
    SHOES,
    SHORT,
    SKIN,
    TROUSERS,
    Looks,
)
from supernet.pose.synthetic.body_parts import ADJACENT_BARS, BAR_OF, BARS, CUFFS, ENDS, RADII, STARTS
from supernet.pose.synthetic.head import Painting, Tones
from supernet.pose.synthetic.shapes import Floats, Outline, capsules, to_fixed_point


@dataclass(frozen=True)
class Limbs:
    """The bars of P people in the image; outlines are in fixed point (see ``to_fixed_point``).

    Attributes:
        bars: (P, bars, 14, 2) outlines.
        lit_bars: (P, bars, 14, 2) outlines of their bright parts.
        cuffs: (P, 4, 14, 2) outlines of ``CUFFS``.
        lit_cuffs: (P, 4, 14, 2) outlines of their bright parts.
        bridges: (P, 8, 14, 2) outlines of bright strips across the joints of ``ADJACENT_BARS``.
        is_straight: (P, 8) whether the limb is straight at the joint.
    """

    bars: Outline
    lit_bars: Outline
    cuffs: Outline
    lit_cuffs: Outline
    bridges: Outline
    is_straight: npt.NDArray[np.bool_]


def place_limbs(points: Floats, head_sizes: Floats, girths: Floats, statures: Floats, light: Floats) -> Limbs:
    """Project the bars of P people into the image.

    Args:
        points: (P, N, 2) points of the skeletons in pixels.
        head_sizes: (P,) sizes of the heads relative to an adult's.
        girths: (P,) thickness of the bodies relative to the average.
        statures: (P,) heights of the people when standing, in pixels.
        light: (2,) direction towards the light, in the image.
    """
    radii = RADII * statures[:, None, None] * girths[:, None, None]
    radii[:, [BAR_OF["neck"], BAR_OF["hair"]]] *= (head_sizes / girths)[:, None, None]
    radii = np.maximum(radii, 0.55)
    starts, ends = points[:, STARTS], points[:, ENDS]
    towards = 0.3 * radii.mean(axis=-1)[..., None] * light
    rows, widening = [cuff.bar for cuff in CUFFS], np.array([cuff.widening for cuff in CUFFS])
    shares = np.array([cuff.share for cuff in CUFFS])
    cuff_ends = starts[:, rows] + shares[:, None] * (ends[:, rows] - starts[:, rows])
    wide, shift = radii[:, rows, 0] * widening, towards[:, rows]
    bridges, is_straight = _bridges(starts + towards, ends + towards, radii)
    return Limbs(
        bars=to_fixed_point(capsules(starts, ends, radii[..., 0], radii[..., 1])),
        lit_bars=to_fixed_point(capsules(starts + towards, ends + towards, 0.62 * radii[..., 0], 0.62 * radii[..., 1])),
        cuffs=to_fixed_point(capsules(starts[:, rows], cuff_ends, wide, 0.9 * wide)),
        lit_cuffs=to_fixed_point(capsules(starts[:, rows] + shift, cuff_ends + shift, 0.62 * wide, 0.56 * wide)),
        bridges=bridges,
        is_straight=is_straight,
    )


def _bridges(starts: Floats, ends: Floats, radii: Floats) -> tuple[Outline, npt.NDArray[np.bool_]]:
    """Bright strips that continue a limb's shading across a straight elbow or knee, so that no seam marks the joint.

    Returns:
        Outlines (P, 8, 14, 2), and whether the limb is straight at the joint, (P, 8).
    """
    bar, neighbour, end = (list(column) for column in zip(*ADJACENT_BARS, strict=True))
    at_end = np.array(end, dtype=np.bool_)[:, None]
    shared = np.where(at_end, ends[:, bar], starts[:, bar])
    far = np.where(at_end, ends[:, neighbour], starts[:, neighbour])
    own = np.where(at_end, starts[:, bar], ends[:, bar])
    radius = 0.62 * np.where(at_end[:, 0], radii[:, bar, 1], radii[:, bar, 0])
    along, back = far - shared, shared - own
    cosine = (along * back).sum(axis=-1) / np.maximum(
        np.linalg.norm(along, axis=-1) * np.linalg.norm(back, axis=-1), 1e-6
    )
    return to_fixed_point(capsules(shared, shared + 0.3 * along, radius, radius)), cosine > 0.5


def paint_limbs(limbs: Limbs, person: int, looks: Looks, tones: Tones) -> dict[str, Painting]:
    """The outlines and fills of one person's bars by part, the hair and the backpack only where the person has them.

    Args:
        limbs: All limbs in the image.
        person: Index of the person.
        looks: Appearance of all people.
        tones: Colours of the person by role and tone.
    """
    roles, painted = _roles(looks, person), dict[str, Painting]()
    for part, role in roles.items():
        row = BAR_OF[part]
        fills = [(limbs.bars[person, row], tones[role][DARK]), (limbs.lit_bars[person, row], tones[role][PLAIN])]
        painted[part] = [limbs.bars[person, row]], fills
    for index, (bar, neighbour, _) in enumerate(ADJACENT_BARS):
        part = BARS[bar].part
        if limbs.is_straight[person, index] and roles[part] == roles[BARS[neighbour].part]:
            painted[part][1].append((limbs.bridges[person, index], tones[roles[part]][PLAIN]))
    for index, cuff in enumerate(CUFFS):
        kind, role = (looks.sleeves[person], SHIRT) if index < 2 else (looks.legs[person], TROUSERS)
        if kind == SHORT:
            outlines, fills = painted[BARS[cuff.bar].part]
            outline, lit = limbs.cuffs[person, index], limbs.lit_cuffs[person, index]
            outlines.append(outline)
            fills += [(outline, tones[role][DARK]), (lit, tones[role][PLAIN])]
    return painted


def _roles(looks: Looks, person: int) -> dict[str, int]:
    """The colour role of each bar that a person has."""
    sleeve = SHIRT if looks.sleeves[person] == LONG else SKIN
    leg = TROUSERS if looks.legs[person] == LONG else SKIN
    roles = {"neck": SKIN}
    if looks.long_hair[person]:
        roles["hair"] = HAIR
    if looks.backpack[person]:
        roles["backpack"] = BACKPACK
    for side in ("left", "right"):
        roles |= {f"{side}_upper_arm": sleeve, f"{side}_forearm": sleeve, f"{side}_hand": SKIN}
        roles |= {f"{side}_thigh": leg, f"{side}_shin": leg, f"{side}_foot": SHOES}
    return roles
