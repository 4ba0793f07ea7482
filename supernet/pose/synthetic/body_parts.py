"""Body parts of the built-in people: shapes, thickness, the landmarks on them, and their depth order."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from supernet.pose.synthetic.head import FACE_LANDMARKS
from supernet.pose.synthetic.shapes import Floats
from supernet.pose.synthetic.skeleton import POINT

PARTS: Final = (
    *("torso", "left_upper_arm", "right_upper_arm", "left_forearm", "right_forearm"),
    *("pelvis", "left_thigh", "right_thigh", "left_shin", "right_shin", "skirt"),
    *("neck", "head", "left_hand", "right_hand", "left_foot", "right_foot", "hair", "backpack"),
)
PART: Final = {name: index for index, name in enumerate(PARTS)}
LANDMARKS: Final = (
    *FACE_LANDMARKS,
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck"),
)
# The parts of the person's own body that a landmark lies on; any other part in front of it hides it.
_CARRIERS: Final = {
    **dict.fromkeys(FACE_LANDMARKS, ("head",)),
    "shoulder": ("torso", "upper_arm", "hair"),
    "elbow": ("upper_arm", "forearm"),
    "wrist": ("forearm", "hand"),
    "hip": ("torso", "pelvis", "thigh", "skirt"),
    "knee": ("thigh", "shin", "skirt"),
    "ankle": ("shin", "foot"),
    "head": ("head", "hair"),
    "neck": ("neck", "torso", "hair"),
}

# Neighbouring landmarks: if one of a pair is visible, an annotator can place the other.
_NEIGHBOURS: Final = (
    *(("nose", "eye"), ("eye", "ear"), ("ear", "head"), ("head", "neck"), ("neck", "shoulder")),
    *(("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle")),
    *(("left_eye", "right_eye"), ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")),
)


class Bar(NamedTuple):
    """A part drawn as a tapered bar between two points, with its radii in statures."""

    part: str
    start: str
    end: str
    start_radius: float
    end_radius: float


class Cuff(NamedTuple):
    """A sleeve or trouser leg that covers a share of a bar's length; ``widening`` is relative to the bar's start."""

    bar: int
    share: float
    widening: float


_LIMBS: Final = (
    Bar("upper_arm", "shoulder", "elbow", 0.038, 0.029),
    Bar("forearm", "elbow", "wrist", 0.029, 0.021),
    Bar("hand", "wrist", "fingers", 0.021, 0.016),
    Bar("thigh", "hip", "knee", 0.062, 0.043),
    Bar("shin", "knee", "ankle", 0.042, 0.027),
    Bar("foot", "ankle", "toes", 0.027, 0.020),
)
BARS: Final = (
    *(
        Bar(f"{side}_{part}", f"{side}_{start}", f"{side}_{end}", *radii)
        for side in ("left", "right")
        for part, start, end, *radii in _LIMBS
    ),
    Bar("neck", "head_centre", "neck", 0.032, 0.036),
    Bar("hair", "back_of_head", "nape", 0.062, 0.052),
    Bar("backpack", "backpack_top", "backpack_bottom", 0.062, 0.078),
)
BAR_OF: Final = {bar.part: index for index, bar in enumerate(BARS)}
STARTS: Final = [POINT[bar.start] for bar in BARS]
ENDS: Final = [POINT[bar.end] for bar in BARS]
RADII: Final = np.array([bar[3:] for bar in BARS], dtype=np.float64)
CUFFS: Final = (
    *(Cuff(BAR_OF[f"{side}_upper_arm"], 0.62, 1.24) for side in ("left", "right")),
    *(Cuff(BAR_OF[f"{side}_thigh"], 0.74, 1.14) for side in ("left", "right")),
)
# Adjacent bars of a limb: bar, its neighbour, and the end of the bar (0 start, 1 end) where they meet.
ADJACENT_BARS: Final = (
    *((0, 1, 1), (1, 0, 0), (3, 4, 1), (4, 3, 0)),
    *((6, 7, 1), (7, 6, 0), (9, 10, 1), (10, 9, 0)),
)
TORSO: Final = ("left_shoulder", "right_shoulder", "neck", "left_rib", "right_rib", "waist", "left_hip", "right_hip")
TORSO_RADII: Final = np.array([0.043, 0.043, 0.036, 0.060, 0.060, 0.064, 0.062, 0.062])
# For the depth order: how much nearer than the mean of its ends the surface of a part is, in statures.
_NEARER: Final = {"upper_arm": 0.02, "forearm": 0.03, "hand": 0.034, "head": 0.012, "neck": 0.004, "pelvis": -0.012}


def carriers() -> npt.NDArray[np.bool_]:
    """(19, parts): whether a landmark is visible where this part of the person's own body is in front."""
    table = np.zeros((len(LANDMARKS), len(PARTS)), dtype=np.bool_)
    for row, landmark in enumerate(LANDMARKS):
        side, _, name = landmark.partition("_")
        for part in _CARRIERS[landmark if landmark in _CARRIERS else name]:
            table[row, PART[part if part in PART else f"{side}_{part}"]] = True
    return table


def neighbouring_landmarks() -> npt.NDArray[np.bool_]:
    """(19, 19), symmetric: whether a landmark can be placed if the other one is visible."""
    table = np.zeros((len(LANDMARKS), len(LANDMARKS)), dtype=np.bool_)
    for pair in _NEIGHBOURS:
        for side in ("left", "right"):
            first, second = (LANDMARKS.index(name if name in LANDMARKS else f"{side}_{name}") for name in pair)
            table[first, second] = table[second, first] = True
    return table


def nearness_of_parts(depth: Floats) -> Floats:
    """Depth of each part (P, parts) from the depths of the points (P, points); larger values are drawn later."""
    near = np.empty((len(depth), len(PARTS)))
    between = 0.5 * (depth[:, STARTS] + depth[:, ENDS])
    for part, row in PART.items():
        if part in BAR_OF:
            near[:, row] = between[:, BAR_OF[part]]
    near[:, PART["torso"]] = depth[:, POINT["chest"]]
    near[:, PART["neck"]] = np.minimum(depth[:, POINT["neck"]], depth[:, POINT["head_centre"]])
    near[:, PART["pelvis"]] = depth[:, POINT["pelvis"]]
    near[:, PART["head"]] = depth[:, POINT["head_centre"]]
    near[:, PART["skirt"]] = near[:, [PART["left_thigh"], PART["right_thigh"]]].max(axis=1) + 0.02
    near += [_NEARER.get(part, _NEARER.get(part.partition("_")[2], 0.0)) for part in PARTS]
    return near
