"""Random people as articulated skeletons: posture, proportions and the position of every body point in space.

A body's frame has x to the person's left, y up and z forward. A person at yaw 0 faces the camera, which looks along -z,
so the left hand is on the right of the image. Lengths are in statures (1 is the height of the person when standing).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

POINTS: Final = (
    *("pelvis", "waist", "chest", "neck", "head_centre", "head", "back_of_head", "nape"),
    *("backpack_top", "backpack_bottom"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_fingers", "right_fingers", "left_hip", "right_hip", "left_knee", "right_knee"),
    *("left_ankle", "right_ankle", "left_toes", "right_toes", "left_rib", "right_rib"),
)
POINT: Final = {name: index for index, name in enumerate(POINTS)}

# Arms, degrees: mean and spread of (away from the side, forward, inward rotation about its axis, elbow).
_ARMS: Final = np.array(
    [
        [[9, 5, 0, 14], [5, 14, 15, 12]],  # hanging
        [[14, 24, 20, 98], [10, 20, 25, 24]],  # bent: holding something, folded
        [[6, 78, 0, 24], [10, 20, 25, 22]],  # reaching forward
        [[158, 0, 0, 24], [16, 15, 30, 24]],  # up
        [[86, 5, 0, 22], [14, 18, 35, 24]],  # sideways
        [[48, -12, 62, 94], [8, 8, 10, 10]],  # hand on the hip
        [[78, 15, -75, 100], [15, 12, 20, 22]],  # waving
    ],
    dtype=np.float64,
)
# Legs, degrees: mean and spread of (away from the middle, thigh forward, outward rotation, knee).
_LEGS: Final = np.array(
    [
        [[4, 3, 6, 5], [3, 5, 8, 5]],  # standing
        [[3, 27, 3, 12], [3, 8, 6, 9]],  # stepping forward
        [[3, -17, 3, 28], [3, 7, 6, 15]],  # pushing off behind
        [[9, 84, 6, 84], [8, 8, 8, 14]],  # sitting
        [[14, 104, 12, 128], [8, 12, 10, 12]],  # crouching
        [[5, 66, 4, 78], [5, 14, 8, 20]],  # running, front
        [[5, -22, 4, 62], [4, 10, 8, 22]],  # running, back
        [[23, 2, 12, 6], [7, 6, 10, 6]],  # straddling
        [[8, 16, 5, 24], [8, 22, 10, 24]],  # relaxed, for lying
    ],
    dtype=np.float64,
)
_POSTURES: Final = ("standing", "walking", "sitting", "celebrating", "bending", "running", "crouching", "lying")
_POSTURE_SHARES: Final = np.array([0.42, 0.24, 0.08, 0.12, 0.04, 0.06, 0.02, 0.02])
# Per posture: probability of each row of _ARMS, rows of _LEGS of both legs, mean and spread of (pelvis pitch, bend).
_ARM_SHARES: Final = np.array(
    [
        [0.42, 0.22, 0.08, 0.05, 0.06, 0.11, 0.06],
        [0.62, 0.22, 0.06, 0.02, 0.02, 0.01, 0.05],
        [0.25, 0.35, 0.22, 0.04, 0.05, 0.04, 0.05],
        [0.05, 0.05, 0.04, 0.56, 0.15, 0.04, 0.11],
        [0.34, 0.20, 0.40, 0.01, 0.05, 0.00, 0.00],
        [0.10, 0.54, 0.16, 0.08, 0.08, 0.00, 0.04],
        [0.15, 0.40, 0.40, 0.00, 0.05, 0.00, 0.00],
        [0.34, 0.20, 0.08, 0.18, 0.16, 0.02, 0.02],
    ]
)
_LEG_ROWS: Final = np.array([[0, 0], [1, 2], [3, 3], [7, 0], [0, 0], [5, 6], [4, 4], [8, 8]])
_SPINES: Final = np.array(
    [
        [[0, 3], [3, 5]],
        [[2, 4], [3, 4]],
        [[-4, 8], [8, 10]],
        [[-2, 0], [5, 8]],
        [[38, 34], [14, 14]],
        [[9, 9], [6, 6]],
        [[16, 24], [10, 12]],
        [[0, 4], [8, 8]],
    ],
    dtype=np.float64,
)
_BASE, _PELVIS, _CHEST, _HEAD, _THIGH, _ARM, _SHIN, _FOREARM = 0, 1, 2, 3, 4, 6, 8, 10
_SIDES: Final = np.array([1.0, -1.0])


@dataclass(frozen=True)
class Skeletons:
    """P people in camera orientation: x right, y up, z towards the camera, in statures.

    Attributes:
        points: (P, len(POINTS), 3) positions relative to the pelvis.
        pelvis: (P, 3, 3) rotation of the pelvis; column i is the direction of the body's axis i.
        chest: (P, 3, 3) rotation of the chest.
        head: (P, 3, 3) rotation of the head.
        head_size: (P,) size of the head relative to an adult's.
    """

    points: Floats
    pelvis: Floats
    chest: Floats
    head: Floats
    head_size: Floats


def _rotations(degrees: Floats) -> Floats:
    """Rotation matrices (..., 3, 3) from angles (..., 3) about z, x and y; y is applied first, then x, then z."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    (cz, cx, cy), (sz, sx, sy) = np.moveaxis(cosine, -1, 0), np.moveaxis(sine, -1, 0)
    matrix = np.empty((*degrees.shape[:-1], 3, 3))
    matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2] = cz * cy - sz * sx * sy, -sz * cx, cz * sy + sz * sx * cy
    matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2] = sz * cy + cz * sx * sy, cz * cx, sz * sy - cz * sx * cy
    matrix[..., 2, 0], matrix[..., 2, 1], matrix[..., 2, 2] = -cx * sy, sx, cx * cy
    return matrix


def _angles(rng: np.random.Generator, count: int, yaw: Floats, elevation: float) -> Floats:
    """Draw angles (P, 12, 3) about z, x and y of base, pelvis, chest, head, thighs, arms, shins and forearms."""
    posture = rng.choice(len(_POSTURES), count, p=_POSTURE_SHARES)
    spread = np.clip(rng.standard_normal((count, 25)), -2.0, 2.0)
    chance = rng.random((count, 6))
    angles = np.zeros((count, 12, 3))
    lying = posture == _POSTURES.index("lying")
    angles[:, _BASE, 0] = 5 * spread[:, 0] + lying * np.where(chance[:, 0] < 0.5, 85, -85) * (1 + 0.1 * spread[:, 1])
    angles[:, _BASE, 1] = elevation + lying * 20 * chance[:, 1]
    angles[:, _BASE, 2] = yaw

    spine = _SPINES[posture, 0] + _SPINES[posture, 1] * spread[:, 2:4]
    angles[:, _PELVIS, 1], angles[:, _CHEST, 1] = spine[:, 0], spine[:, 1]
    angles[:, _CHEST, 0], angles[:, _CHEST, 2] = 6 * spread[:, 4], 12 * spread[:, 5]
    angles[:, _HEAD] = np.array([7, 12, 26]) * spread[:, 6:9]
    angles[:, _HEAD, 1] -= 0.5 * spine.sum(axis=1) - 5

    arm_row = (np.cumsum(_ARM_SHARES, axis=1)[posture][:, None, :] < chance[:, 2:4, None]).sum(axis=-1)
    is_symmetric = chance[:, 4] < 0.45
    arm_row[is_symmetric, 1] = arm_row[is_symmetric, 0]
    arm_row = np.minimum(arm_row, len(_ARMS) - 1)
    arms = _ARMS[arm_row, 0] + _ARMS[arm_row, 1] * spread[:, 9:17].reshape(count, 2, 4)
    leg_row = _LEG_ROWS[posture]
    leg_row = np.where(chance[:, 5:6] < 0.5, leg_row, leg_row[:, ::-1])
    legs = _LEGS[leg_row, 0] + _LEGS[leg_row, 1] * spread[:, 17:25].reshape(count, 2, 4)
    arms[..., 3], legs[..., 3] = np.clip(arms[..., 3], 0, 145), np.clip(legs[..., 3], 0, 150)
    # When striding, arms swing against the legs.
    striding = (posture == _POSTURES.index("walking")) | (posture == _POSTURES.index("running"))
    arms[..., 1] -= 0.6 * np.where((arm_row <= 1) & striding[:, None], legs[..., 1], 0)

    angles[:, _THIGH : _THIGH + 2, 0], angles[:, _ARM : _ARM + 2, 0] = _SIDES * legs[..., 0], _SIDES * arms[..., 0]
    angles[:, _THIGH : _THIGH + 2, 1], angles[:, _ARM : _ARM + 2, 1] = -legs[..., 1], -arms[..., 1]
    angles[:, _THIGH : _THIGH + 2, 2], angles[:, _ARM : _ARM + 2, 2] = _SIDES * legs[..., 2], -_SIDES * arms[..., 2]
    angles[:, _SHIN : _SHIN + 2, 1], angles[:, _FOREARM : _FOREARM + 2, 1] = legs[..., 3], -arms[..., 3]
    return angles


def sample_skeletons(rng: np.random.Generator, count: int, yaw: Floats, elevation: float) -> Skeletons:
    """Draw P = ``count`` people.

    Args:
        rng: Random generator.
        count: Number of people, P.
        yaw: (P,) degrees that each person is turned to their left; 0 faces the camera, 180 shows the back.
        elevation: Degrees that the camera looks down.
    """
    local = _rotations(_angles(rng, count, yaw, elevation))
    base = local[:, _BASE]
    pelvis = base @ local[:, _PELVIS]
    chest = pelvis @ local[:, _CHEST]
    head = chest @ local[:, _HEAD]
    # Legs are attached to the base, not to the pelvis: a person who bends over stays upright.
    thighs = base[:, None] @ local[:, _THIGH : _THIGH + 2]
    shins = thighs @ local[:, _SHIN : _SHIN + 2]
    arms = chest[:, None] @ local[:, _ARM : _ARM + 2]
    forearms = arms @ local[:, _FOREARM : _FOREARM + 2]

    size = 1 + 0.06 * np.clip(rng.standard_normal((count, 8)), -2, 2)
    child = np.where(rng.random(count) < 0.2, 1.0, 0.0)
    head_size = (1.08 + 0.28 * child) * size[:, 0]
    limb = 1 - 0.08 * child

    points = np.zeros((count, len(POINTS), 3))
    (across, up, forward), (lower_across, lower_up, _) = np.moveaxis(chest, 2, 0), np.moveaxis(pelvis, 2, 0)
    _, head_up, head_forward = np.moveaxis(head * head_size[:, None, None], 2, 0)
    waist = 0.115 * size[:, 1, None] * lower_up
    neck = waist + 0.185 * size[:, 2, None] * up - 0.005 * forward
    centre = neck + 0.02 * head[..., 1] + 0.075 * head_up + 0.012 * head[..., 2]
    points[:, POINT["waist"]], points[:, POINT["neck"]], points[:, POINT["head_centre"]] = waist, neck, centre
    points[:, POINT["chest"]] = waist + 0.09 * up
    points[:, POINT["head"]] = centre + 0.069 * head_up
    points[:, POINT["back_of_head"]] = centre - 0.01 * head[..., 1] - 0.024 * head_forward
    points[:, POINT["nape"]] = neck - 0.02 * up - 0.06 * forward
    points[:, POINT["backpack_top"]] = neck - 0.05 * up - 0.12 * forward
    points[:, POINT["backpack_bottom"]] = neck - 0.2 * up - 0.12 * forward

    # Pairs of points (P, 2 sides, 3): left, right.
    outwards, lower_outwards = across[:, None] * _SIDES[:, None], lower_across[:, None] * _SIDES[:, None]
    arm_length, leg_length = (size[:, 4] * limb)[:, None, None], (size[:, 6] * limb)[:, None, None]
    shoulders = (neck - 0.035 * up)[:, None] + 0.118 * size[:, 3, None, None] * outwards
    elbows = shoulders - 0.170 * arm_length * arms[..., 1]
    wrists = elbows - 0.148 * arm_length * forearms[..., 1]
    hips = -0.012 * lower_up[:, None] + 0.068 * size[:, 5, None, None] * lower_outwards
    knees = hips - 0.238 * leg_length * thighs[..., 1]
    ankles = knees - 0.232 * leg_length * shins[..., 1]
    toes_outwards = 0.015 * _SIDES[:, None] * shins[..., 0]
    for name, pair in (
        ("shoulder", shoulders),
        ("elbow", elbows),
        ("wrist", wrists),
        ("fingers", wrists - 0.06 * forearms[..., 1] + 0.012 * forearms[..., 2]),
        ("hip", hips),
        ("knee", knees),
        ("ankle", ankles),
        ("toes", ankles + toes_outwards - 0.032 * shins[..., 1] + 0.085 * shins[..., 2]),
        ("rib", (waist + 0.05 * up)[:, None] + 0.048 * outwards),
    ):
        left = POINT[f"left_{name}"]
        points[:, left : left + 2] = pair
    return Skeletons(points, pelvis, chest, head, head_size)
