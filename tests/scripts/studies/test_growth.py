"""The study of growth measures each size it is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.studies import growth
from supernet.space import SearchSpace


def test_costs_have_a_row_for_each_space(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    growth.main(["--output", str(tmp_path / "costs.json"), "costs", "--archs", "20"])
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [row["space"] for row in rows] == list(growth.SPACES)
    assert [row["subnets"] for row in rows] == [float(SearchSpace.load(name).count()) for name in growth.SPACES]
    assert all(row["archs_per_second"] > 0 for row in rows)
    assert json.loads((tmp_path / "costs.json").read_text())["results"] == rows


def test_annotations_have_a_row_for_each_number_of_images(capsys: pytest.CaptureFixture[str]) -> None:
    growth.main(["annotations", "--images", "100", "300"])
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [row["images"] for row in rows] == [100, 300]
    assert rows[0]["file_mb"] < rows[1]["file_mb"]


def test_a_repeated_candidate_differs_from_its_model() -> None:
    row = {"digest": "a", "order": 0, "costs": {"macs": 1000, "latency_ms": 2.0}, "metrics": {"val": {"AP": 0.5}}}
    again = growth._like(row, 7, np.random.default_rng(0))
    assert (again["digest"], again["order"]) == ("a-7", 7)
    assert again["costs"]["macs"] != 1000
    assert isinstance(again["costs"]["macs"], int)
    assert again["metrics"]["val"]["AP"] != 0.5
    assert row["metrics"] == {"val": {"AP": 0.5}}
