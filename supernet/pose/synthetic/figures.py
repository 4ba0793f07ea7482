"""Projects dressed skeletons into the image: body parts as outlines and fills, and landmarks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supernet.pose.synthetic.appearance import (
    BACKPACK,
    BARE,
    DARK,
    FRONT,
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
from supernet.pose.synthetic.body_parts import (
    ADJACENT_BARS,
    BAR_OF,
    BARS,
    CUFFS,
    ENDS,
    LANDMARKS,
    PART,
    PARTS,
    RADII,
    STARTS,
    TORSO,
    TORSO_RADII,
    nearness_of_parts,
)
from supernet.pose.synthetic.head import FACE_LANDMARKS, Fill, Tones, paint_head, place_heads
from supernet.pose.synthetic.shapes import Floats, Outline, capsules, discs, hull, shrunk, to_fixed_point
from supernet.pose.synthetic.skeleton import POINT, Skeletons


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


def _roles(looks: Looks, person: int) -> dict[str, int]:
    """The colour role of each bar."""
    sleeve = SHIRT if looks.sleeves[person] == LONG else SKIN
    leg = TROUSERS if looks.legs[person] == LONG else SKIN
    roles = {"neck": SKIN, "hair": HAIR, "backpack": BACKPACK}
    for side in ("left", "right"):
        roles |= {f"{side}_upper_arm": sleeve, f"{side}_forearm": sleeve, f"{side}_hand": SKIN}
        roles |= {f"{side}_thigh": leg, f"{side}_shin": leg, f"{side}_foot": SHOES}
    return roles


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


def build_figures(skeletons: Skeletons, looks: Looks, feet: Floats, statures: Floats, light: Floats) -> list[Figure]:
    """Project P people into the image.

    Args:
        skeletons: Bodies.
        looks: Appearance.
        feet: (P, 2) position of each person's lowest point, below the pelvis, in pixels.
        statures: (P,) heights of the people when standing, in pixels.
        light: (2,) direction towards the light, in the image.
    """
    count = len(statures)
    depth = skeletons.points[..., 2]
    # A mild perspective: nearer parts are slightly larger.
    flat = skeletons.points[..., :2] * np.array([1.0, -1.0]) * (1 + 0.12 * depth[..., None])
    scale = statures[:, None, None]
    drop = flat[..., 1].max(axis=1) + 0.02
    points = flat * scale + (feet - np.stack([np.zeros(count), drop * statures], axis=-1))[:, None]

    radii = RADII * scale * looks.girth[:, None, None]
    radii[:, [BAR_OF["neck"], BAR_OF["hair"]]] *= (skeletons.head_size / looks.girth)[:, None, None]
    radii = np.maximum(radii, 0.55)
    starts, ends = points[:, STARTS], points[:, ENDS]
    bars = to_fixed_point(capsules(starts, ends, radii[..., 0], radii[..., 1]))
    towards = 0.3 * radii.mean(axis=-1)[..., None] * light
    lit_bars = to_fixed_point(capsules(starts + towards, ends + towards, 0.62 * radii[..., 0], 0.62 * radii[..., 1]))
    rows, widening = [cuff.bar for cuff in CUFFS], np.array([cuff.widening for cuff in CUFFS])
    shares = np.array([cuff.share for cuff in CUFFS])
    cuff_ends = starts[:, rows] + shares[:, None] * (ends[:, rows] - starts[:, rows])
    wide = radii[:, rows, 0] * widening
    cuffs = to_fixed_point(capsules(starts[:, rows], cuff_ends, wide, 0.9 * wide))
    shift = towards[:, rows]
    lit_cuffs = to_fixed_point(capsules(starts[:, rows] + shift, cuff_ends + shift, 0.62 * wide, 0.56 * wide))

    bridges, straight = _bridges(starts + towards, ends + towards, radii)

    trunk = points[:, [POINT[name] for name in TORSO]]
    trunk_radii = TORSO_RADII * statures[:, None] * looks.girth[:, None]
    trunk_discs = discs(trunk, trunk_radii)
    hem = trunk[:, 6:8] + 0.8 * (points[:, [POINT["left_knee"], POINT["right_knee"]]] - trunk[:, 6:8])
    hem_discs = discs(hem, 1.15 * trunk_radii[:, 6:8])
    heads = place_heads(points[:, POINT["head_centre"]], skeletons.head, statures * skeletons.head_size, light)
    chest_axes = skeletons.chest
    nearness = nearness_of_parts(depth)

    body = [POINT[name] for name in LANDMARKS[len(FACE_LANDMARKS) :]]
    landmarks = np.concatenate([heads.features[:, : len(FACE_LANDMARKS)], points[:, body]], axis=1)
    labelled = np.ones((count, len(LANDMARKS)), dtype=np.bool_)
    labelled[:, : len(FACE_LANDMARKS)] = heads.labelled()
    labelled[:, 3:5] &= ~looks.long_hair[:, None]
    behind = np.zeros((count, len(LANDMARKS)), dtype=np.bool_)
    for side in ("left", "right"):  # Hidden when turned about 40 degrees away.
        for name, middle, distance in ((f"{side}_shoulder", "chest", 0.077), (f"{side}_hip", "pelvis", 0.045)):
            behind[:, LANDMARKS.index(name)] = depth[:, POINT[name]] < depth[:, POINT[middle]] - distance

    figures = []
    palette = [[[(t[0], t[1], t[2]) for t in role] for role in person] for person in looks.colours.tolist()]
    for person in range(count):
        tones: Tones = palette[person]
        roles = _roles(looks, person)
        painted: dict[str, tuple[list[Outline], list[Fill]]] = {}
        for part, role in roles.items():
            row = BAR_OF[part]
            fills = [(bars[person, row], tones[role][DARK]), (lit_bars[person, row], tones[role][PLAIN])]
            painted[part] = [bars[person, row]], fills
        for index, (bar, neighbour, _) in enumerate(ADJACENT_BARS):
            part = BARS[bar].part
            if straight[person, index] and roles[part] == roles[BARS[neighbour].part]:
                painted[part][1].append((bridges[person, index], tones[roles[part]][PLAIN]))
        for index, cuff in enumerate(CUFFS):
            kind, role = (looks.sleeves[person], SHIRT) if index < 2 else (looks.legs[person], TROUSERS)
            if kind == SHORT:
                outlines, fills = painted[BARS[cuff.bar].part]
                outlines.append(cuffs[person, index])
                fills += [(cuffs[person, index], tones[role][DARK]), (lit_cuffs[person, index], tones[role][PLAIN])]

        shine = 0.016 * statures[person] * light
        shirt, hips = tones[SHIRT], tones[TROUSERS]
        upper, lower = hull(trunk_discs[person, :5]), hull(trunk_discs[person, 3:])
        seat = hull(trunk_discs[person, 6:])
        shapes = [to_fixed_point(shape) for shape in (upper, lower, seat)]
        lit = [to_fixed_point(shrunk(shape, 0.74, shine)) for shape in (upper, lower, seat)]
        torso_fills = [
            (shapes[1], shirt[DARK]),
            (shapes[0], shirt[DARK]),
            (lit[1], shirt[PLAIN]),
            (lit[0], shirt[PLAIN]),
        ]
        half, axes = float(looks.front[person]), chest_axes[person]
        if half > 0 and axes[2, 2] > 0.2:
            corners = np.array([[-half, 0.155, 0.055], [half, 0.155, 0.055], [half, -0.07, 0.06], [-half, -0.07, 0.06]])
            strip = (corners @ axes.T)[:, :2] * np.array([1.0, -1.0]) * statures[person]
            torso_fills.append((to_fixed_point(trunk[person, 5] + strip), tones[FRONT][PLAIN]))
        painted["torso"] = shapes[:2], torso_fills
        painted["pelvis"] = [shapes[2]], [(shapes[2], hips[DARK]), (lit[2], hips[PLAIN])]
        if looks.legs[person] == BARE:
            cloth = hull(np.concatenate([trunk_discs[person, 6:], hem_discs[person]]))
            skirt = to_fixed_point(cloth)
            painted["skirt"] = [skirt], [(skirt, hips[DARK]), (to_fixed_point(shrunk(cloth, 0.76, shine)), hips[PLAIN])]
        painted["head"] = paint_head(
            heads, person, tones, covered_ears=bool(looks.long_hair[person]), hat=bool(looks.hat[person])
        )
        absent = {
            part for part, has in (("hair", looks.long_hair[person]), ("backpack", looks.backpack[person])) if not has
        }
        first = 1 + person * len(PARTS)
        order = [PARTS[row] for row in np.argsort(nearness[person], kind="stable")]
        parts = tuple(
            Part(first + PART[part], tuple(painted[part][0]), tuple(painted[part][1]))
            for part in order
            if part in painted and part not in absent
        )
        lean = trunk[person, 2] - trunk[person, 6:].mean(axis=0)
        figures.append(
            Figure(
                first_identity=first,
                parts=parts,
                landmarks=landmarks[person],
                labelled=labelled[person],
                behind=behind[person],
                stature=float(statures[person]),
                slant=float(np.rad2deg(np.arctan2(lean[0], -lean[1]))),
                shirt=(int(looks.shirt_texture[person]), "right_forearm" if looks.sleeves[person] == LONG else "torso"),
                trousers=(
                    int(looks.trousers_texture[person]),
                    {BARE: "skirt", SHORT: "pelvis", LONG: "right_shin"}[int(looks.legs[person])],
                ),
            )
        )
    return figures
