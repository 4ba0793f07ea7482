"""Heads of the built-in people: an ellipsoid with hair, face and ears, as outlines and fills."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from supernet.pose.synthetic.appearance import DARK, HAIR, LIGHT, PLAIN, SKIN
from supernet.pose.synthetic.shapes import CIRCLE, Floats, Outline, capsules, discs, to_fixed_point

Fill = tuple[Outline, tuple[float, float, float]]
Painting = tuple[list[Outline], list[Fill]]
"""Outlines of a part's silhouette, and the fills that paint it, in order."""
Tones = list[list[tuple[float, float, float]]]
"""Colours of a person by role and tone."""

# Half axes of the head in statures: across, up, forward.
_AXES: Final = np.array([0.053, 0.074, 0.064])
# Azimuth to the person's left and elevation in degrees; features also have a distance in half axes.
_FACE: Final = (
    *((-58, -12), (-54, 18), (-34, 31), (0, 35), (34, 31), (54, 18)),
    *((58, -12), (50, -42), (26, -74), (0, -84), (-26, -74), (-50, -42)),
)
_FEATURES: Final = (
    *((0, -10, 1.16), (29, 4, 0.95), (-29, 4, 0.95), (97, -4, 1.06), (-97, -4, 1.06)),  # nose, eyes, ears
    *((0, 6, 1.0), (18, -40, 1.0), (-18, -40, 1.0)),  # bridge of the nose, corners of the mouth
    *((97, 8, 1.06), (-97, 8, 1.06), (97, -20, 1.04), (-97, -20, 1.04)),  # upper and lower ends of the ears
    *((16, 20, 1.0), (42, 16, 1.0), (-16, 20, 1.0), (-42, 16, 1.0)),  # brows
    *((-42, 33, 1.03), (-22, 28, 1.45), (22, 28, 1.45), (42, 33, 1.03)),  # peak of a cap
)
FACE_LANDMARKS: Final = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
# A landmark of the face is visible if its direction points at least this far towards the camera.
_MIN_FACING: Final = np.array([-0.22, 0.0, 0.0, -0.3, -0.3])
# Below this the outline of a face, projected to the rim, would wrap round the back of the head.
_MIN_FACE_FACING: Final = -0.4


def _directions(table: tuple[tuple[float, ...], ...]) -> Floats:
    angles = np.deg2rad(np.array([row[:2] for row in table], dtype=np.float64))
    azimuth, elevation = angles[:, 0], angles[:, 1]
    return np.stack(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], axis=-1
    )


_FACE_DIRECTIONS: Final = _directions(_FACE)
_FEATURE_DIRECTIONS: Final = _directions(_FEATURES)
_FEATURE_DISTANCES: Final = np.array([row[2] for row in _FEATURES])

# Bars between features: their ends and radii in statures. Two brows, mouth, two ears, nose.
_BAR_STARTS: Final = [12, 14, 6, 8, 9, 5]
_BAR_ENDS: Final = [13, 15, 7, 10, 11, 0]
_BAR_RADII: Final = np.array([[6, 6], [6, 6], [7, 7], [13, 10], [13, 10], [6, 11]]) / 1000
_BROWS, _MOUTH, _EARS, _NOSE = 0, 2, 3, 5
_PEAK: Final = slice(16, 20)


@dataclass(frozen=True)
class Heads:
    """P heads in the image; outlines are in fixed point (see ``to_fixed_point``).

    Attributes:
        skull: (P, 12, 2) outlines.
        shine: (P, 12, 2) outlines of the bright part of the hair.
        face: (P, 12, 2) outlines of the faces, moved to the rim where turned away.
        lit_face: (P, 12, 2) outlines of the bright part of the face.
        bars: (P, 6, 14, 2) outlines of brows, mouth, ears and nose.
        eyes: (P, 2, 2, 12, 2) outlines of each eye's white and iris.
        shade: (P, 12, 2) outlines of the shadow under the nose.
        peak: (P, 4, 2) outlines of the peak of a cap.
        features: (P, 20, 2) positions of ``_FEATURES`` in pixels.
        facing: (P, 20) how far each feature points towards the camera, -1 to 1.
    """

    skull: Outline
    shine: Outline
    face: Outline
    lit_face: Outline
    bars: Outline
    eyes: Outline
    shade: Outline
    peak: Outline
    features: Floats
    facing: Floats

    def labelled(self) -> npt.NDArray[np.bool_]:
        """(P, 5): which of ``FACE_LANDMARKS`` are on the visible side of the head."""
        visible: npt.NDArray[np.bool_] = self.facing[:, : len(FACE_LANDMARKS)] > _MIN_FACING
        return visible


def place_heads(centres: Floats, rotations: Floats, units: Floats, light: Floats) -> Heads:
    """Project P heads into the image.

    Args:
        centres: (P, 2) centres of the heads in pixels.
        rotations: (P, 3, 3) rotations of the heads.
        units: (P,) pixels per stature, times the relative size of the head.
        light: (2,) direction towards the light, in the image.
    """
    matrix = rotations * _AXES  # Unit sphere to ellipsoid in camera coordinates.
    flat = matrix[:, :2] * np.array([1.0, -1.0])[:, None] * units[:, None, None]
    rim = np.linalg.cholesky(flat @ np.swapaxes(flat, 1, 2) + 1e-9 * np.eye(2))
    centres = centres[:, None]
    skull = CIRCLE @ np.swapaxes(rim, 1, 2)

    outline = _FACE_DIRECTIONS @ np.swapaxes(rotations, 1, 2)
    turned_away = outline[..., 2:] < 0
    outline = np.where(turned_away, outline * np.array([1.0, 1.0, 0.0]), outline)
    outline /= np.linalg.norm(outline, axis=-1, keepdims=True)
    face = centres + (outline @ rotations) @ np.swapaxes(flat, 1, 2)
    middle = face.mean(axis=1, keepdims=True)

    facing = (_FEATURE_DIRECTIONS @ np.swapaxes(rotations, 1, 2))[..., 2]
    features = centres + (_FEATURE_DIRECTIONS * _FEATURE_DISTANCES[:, None]) @ np.swapaxes(flat, 1, 2)
    radii = _BAR_RADII * units[:, None, None]
    bars = capsules(features[:, _BAR_STARTS], features[:, _BAR_ENDS], radii[..., 0], radii[..., 1])
    unit = units[:, None, None]
    eye_radii = np.array([0.0105, 0.0078]) * unit * np.ones((2, 1))
    shift = unit * light
    return Heads(
        skull=to_fixed_point(centres + skull),
        shine=to_fixed_point(centres + 0.02 * shift + 0.6 * skull),
        face=to_fixed_point(face),
        lit_face=to_fixed_point(middle + 0.008 * shift + 0.78 * (face - middle)),
        bars=to_fixed_point(bars),
        eyes=to_fixed_point(discs(features[:, 1:3, None], eye_radii)),
        shade=to_fixed_point(discs(features[:, 0] + np.array([0.0, 0.008]) * units[:, None], 0.007 * units)),
        peak=to_fixed_point(features[:, _PEAK]),
        features=features,
        facing=facing,
    )


def paint_head(heads: Heads, person: int, tones: Tones, *, covered_ears: bool, hat: bool) -> Painting:
    """The outlines of one head's silhouette, and its fills in painting order.

    Args:
        heads: All heads in the image.
        person: Index of the person.
        tones: Colours of the person by role and tone.
        covered_ears: Whether hair covers the ears.
        hat: Whether the hair is a cap, with a peak over the face.
    """
    facing, bars = heads.facing[person].tolist(), heads.bars[person]
    skin, hair = tones[SKIN], tones[HAIR]
    outlines, fills = [heads.skull[person]], list[Fill]()
    ears = [] if covered_ears else [(bars[_EARS], facing[3]), (bars[_EARS + 1], facing[4])]
    outlines += [ear for ear, towards in ears if towards > -0.5]
    fills += [(ear, skin[DARK]) for ear, towards in ears if -0.5 < towards <= 0]
    fills += [(heads.skull[person], hair[DARK]), (heads.shine[person], hair[PLAIN])]
    if facing[0] > _MIN_FACE_FACING:
        fills += [(heads.face[person], skin[DARK]), (heads.lit_face[person], skin[PLAIN])]
    for eye in (0, 1):
        if facing[1 + eye] > 0:
            white, iris = heads.eyes[person, eye]
            fills += [(white, (232.0, 230.0, 226.0)), (iris, (28.0, 20.0, 20.0))]
        if facing[12 + 2 * eye] > 0.1 and facing[13 + 2 * eye] > 0.1:
            fills.append((bars[_BROWS + eye], hair[DARK]))
    if min(facing[6], facing[7]) > 0:
        fills.append((bars[_MOUTH], (140.0, 48.0, 50.0)))
    if facing[0] > _MIN_FACING[0]:
        outlines.append(bars[_NOSE])
        fills.append((bars[_NOSE], skin[LIGHT] if facing[0] > 0.75 else skin[PLAIN]))
        fills.append((heads.shade[person], skin[DARK]))
    fills += [(ear, skin[PLAIN]) for ear, towards in ears if towards > 0]
    if hat and facing[17] + facing[18] > -0.2:
        outlines.append(heads.peak[person])
        fills.append((heads.peak[person], hair[LIGHT]))
    return outlines, fills
