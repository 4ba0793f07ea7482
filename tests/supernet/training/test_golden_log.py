"""Training gives the stored figures."""

import json
from dataclasses import replace
from typing import Any

import pytest

from supernet.pose.training import objective
from supernet.training.trainer import Trainer
from tests.golden.training_log_recipe import (
    PATH,
    Change,
    Line,
    as_hex,
    as_numbers,
    distance,
    in_float32,
    in_float64,
    made_on,
)

STORED: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
BOUND = 1000 * STORED["spread"]
"""Largest relative distance allowed between figures of the run in float64.

The spread is the largest distance that the rounding of other processors, emulated on the stored one, caused within 20
steps. Rounding errors grow less than twofold per step (from 2e-16 to 2e-11 in these 20), so a thousand spreads are what
they would become after ten more steps: room for libraries that round in a completely different order. The wrong losses
below, off by one hundredth in one term, are more than a thousand times further away than that.
"""


class Noticed(Exception):
    """Ends a run at the first figure outside the bound."""


def test_twenty_steps_have_the_stored_figures_to_the_bit() -> None:
    """On the processor and versions of the stored run."""
    here = made_on()
    different = [name for name, value in STORED["made_on"].items() if here.get(name) != value]
    if different:
        pytest.skip(f"other processor or versions than those of the stored run: {', '.join(different)}")
    assert as_hex(in_float32()) == STORED["float32"]


def test_twenty_steps_in_float64_have_the_stored_figures_on_every_processor() -> None:
    for line, expected in zip(in_float64(), as_numbers(STORED["float64"]), strict=True):
        assert distance(line, expected) < BOUND


def objective_with(**changes: float) -> Change:
    def change(trainer: Trainer) -> None:
        trainer.objective = replace(trainer.objective, **changes)  # type: ignore[arg-type]

    return change


def heavier_distillation(trainer: Trainer) -> None:
    trainer.distillation_weight *= 1.01


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(objective_with(push_weight=1.01e-3), id="push 1 % heavier"),
        pytest.param(objective_with(pull_weight=0.99e-3), id="pull 1 % lighter"),
        pytest.param(objective_with(push_weight=0.0), id="no push"),
        pytest.param(objective_with(sigma=2.02), id="targets 1 % wider"),
        pytest.param(heavier_distillation, id="distillation 1 % heavier"),
    ],
)
def test_a_loss_that_is_slightly_wrong_lies_beyond_the_bound(change: Change) -> None:
    assert_noticed(change)


def test_heatmaps_averaged_over_marked_pixels_alone_lie_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def masked_mean(predicted: Any, target: Any, weights: Any) -> Any:
        squared = (predicted - target).square() * weights
        return squared.sum((1, 2, 3)) / (weights.sum((1, 2, 3)) * predicted.shape[1])

    monkeypatch.setattr(objective, "heatmap_loss", masked_mean)
    assert_noticed(lambda _: None)


def assert_noticed(change: Change) -> None:
    expected = iter(as_numbers(STORED["float64"]))

    def compare(line: Line) -> None:
        if distance(line, next(expected)) > 1000 * BOUND:
            raise Noticed

    with pytest.raises(Noticed):
        in_float64(change, compare)
