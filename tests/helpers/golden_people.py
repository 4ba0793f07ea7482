"""The golden lists of detections and the people in them, for the decoders in every language."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FILE = Path(__file__).parents[1] / "golden" / "decode" / "people.json"
POSITION_TOLERANCE = 1e-4
SCORE_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class GoldenPeople:
    """Detections (K, M, 4) and the people in them: poses (P, K, 3) and scores (P,); made by ``decode_recipe``."""

    name: str
    decoder: dict[str, Any]
    detections: npt.NDArray[np.float32]
    poses: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]

    def check(self, poses: npt.NDArray[Any], scores: npt.NDArray[Any]) -> None:
        """Assert that these are the same people in the same order."""
        assert poses.shape == self.poses.shape, self.name
        np.testing.assert_allclose(poses, self.poses, atol=POSITION_TOLERANCE, rtol=0, err_msg=self.name)
        np.testing.assert_allclose(scores, self.scores, atol=SCORE_TOLERANCE, rtol=0, err_msg=self.name)


def overflown_detections(place: int, bad: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return detections (3, 4, 4) of four people, some with a ``bad`` number in one place, and those without these."""
    number = np.arange(4, dtype=np.float32)
    rest = np.tile(np.stack([10 * number, 10 * number, 0.9 - 0.1 * number, 3 * number], axis=1), (3, 1, 1))
    overflown = rest.copy()
    overflown[1, :, place] = overflown[:, 2, place] = bad
    rest[1] = rest[:, 2] = 0
    return overflown, rest


def golden_people() -> list[GoldenPeople]:
    """Return all cases."""
    return [
        GoldenPeople(
            case["name"],
            case["decoder"],
            np.array(case["detections"], np.float32),
            np.array(case["poses"]).reshape(-1, len(case["detections"]), 3),
            np.array(case["scores"]),
        )
        for case in json.loads(FILE.read_text())["cases"]
    ]
