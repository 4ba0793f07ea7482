"""The final table of a training says what its figures mean."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from supernet.evaluation.subnet_report import report_scores
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.space import SearchSpace
from tests.helpers.spaces import TINY


@pytest.mark.parametrize(("aps", "warns"), [((0.0, 0.004, 0.0), True), ((0.0, 0.2, 0.0), False), ((-1.0,) * 3, False)])
def test_a_supernet_that_finds_nobody_is_named(
    aps: tuple[float, ...], warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    left = iter(aps)

    class Scorer:
        processes = SimpleNamespace(is_main=True)

        def __call__(self, arch: object) -> Any:
            return SimpleNamespace(metrics={"AP": next(left), "AP50": 0.0, "AP75": 0.0, "AR": 0.0})

    with caplog.at_level(logging.WARNING):
        rows = report_scores(cast(SubnetScorer, Scorer()), SearchSpace.from_dict(TINY), num_random=1, seed=0)
    assert [row["metrics"]["AP"] for row in rows] == list(aps)
    assert ("train longer" in caplog.text) == warns
