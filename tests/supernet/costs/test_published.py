"""Costs and AP of the published networks."""

import json
from pathlib import Path

import pytest

from supernet.costs.published import PUBLISHED

COSTS = json.loads((Path(__file__).parents[2] / "golden" / "costs.json").read_text())


@pytest.mark.parametrize(("keypoints", "num"), [("coco", 17), ("crowdpose", 14)])
def test_costs_are_those_measured_on_the_published_networks(keypoints: str, num: int) -> None:
    for network in PUBLISHED[keypoints]:
        (golden,) = [
            row for row in COSTS if row["joints"] == num and row["name"] == network.name.replace("LitePose", "search")
        ]
        assert (network.macs, network.macs_paper, network.params) == (
            golden["macs"],
            golden["macs_paper"],
            golden["params"],
        )


@pytest.mark.parametrize("keypoints", PUBLISHED)
def test_larger_networks_are_better(keypoints: str) -> None:
    aps = [network.ap for network in sorted(PUBLISHED[keypoints], key=lambda network: network.macs)]
    assert aps == sorted(aps)
    assert 0 < aps[0] < aps[-1] < 1
