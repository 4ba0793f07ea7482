"""LiteRT files have the operators of those that Google's converter makes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from subnet_export.deployment.deployed_network import DeploymentNetwork, Input
from subnet_export.deployment.graphs.litert import litert_file
from supernet.arch import Arch
from supernet.litepose import LitePose
from tests.golden.litert_operators_recipe import NUM_KEYPOINTS
from tests.helpers.export_formats import require_installed
from tests.helpers.litert_files import operators

GOLDEN = Path(__file__).parents[3] / "golden"


@pytest.mark.parametrize("takes", ["uint8", "float32"])
def test_a_network_has_the_operators_of_googles_converter(takes: Input) -> None:
    require_installed("litert")
    arch = Arch.from_dict(json.loads((GOLDEN / "arch_random3.json").read_text(encoding="utf-8")))
    found = operators(litert_file(DeploymentNetwork(LitePose(arch, NUM_KEYPOINTS).eval(), takes)))
    expected = json.loads((GOLDEN / "litert_operators.json").read_text(encoding="utf-8"))[takes]

    def counted(entries: list[Any]) -> Counter[str]:
        return Counter(map(json.dumps, entries))

    assert counted(found) == counted(expected)
