"""Training is what it was."""

import json

import pytest

from tests.golden.training_log_recipe import PATH, logged, made_on


def test_twenty_steps_have_the_stored_losses() -> None:
    """To the bit where torch, numpy, OpenCV and processor are those of the stored run, within 1e-4 elsewhere."""
    stored = json.loads(PATH.read_text(encoding="utf-8"))
    lines = logged()
    if made_on() == stored["made_on"]:
        assert lines == stored["lines"]
    for found, expected in zip(lines, stored["lines"], strict=True):
        assert [float.fromhex(value) for value in found] == pytest.approx(
            [float.fromhex(value) for value in expected], rel=1e-4
        )
