"""The study of search engines at a small size: the optimum is found with a tenth of the evaluations."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from scripts.studies import search_engines
from scripts.studies.search_engines import ENGINES, front_share, study
from scripts.studies.search_landscape import SPACE, all_archs, expected_random_search, hypervolume, synthetic
from supernet.space import SearchSpace

pytestmark = pytest.mark.drawings


def test_evolution_finds_the_optimum_in_nine_of_ten_seeds_and_beats_random_search() -> None:
    landscape = synthetic(0)
    assert len(landscape.scores) == SearchSpace.from_dict(SPACE).count() == 3456
    assert landscape.num_evaluations == len(landscape.fitting) // 10
    figures, curves = study({"evolution": ENGINES["evolution"]}, [landscape], 10)
    evolution = figures["engines"]["evolution"]
    assert evolution["optimum_found"][0] >= 9
    assert evolution["beats_random_at_every_budget"]
    assert len(curves["evolution"]) == landscape.num_evaluations


def test_a_search_for_trade_offs_finds_nearly_all_of_the_known_front() -> None:
    landscape = synthetic(1)
    assert min(front_share(landscape, seed) for seed in range(3)) > 0.99


def test_a_hypervolume_is_the_area_below_the_front() -> None:
    # Two steps of a staircase; a dominated point and a point beyond the worst cost add nothing.
    costs, scores = np.array([4.0, 2.0, 5.0, 11.0]), np.array([3.0, 1.0, 2.0, 9.0])
    assert hypervolume(costs, scores, (10.0, 0.0)) == (10 - 2) * 1 + (10 - 4) * (3 - 1)


def test_expected_random_search_agrees_with_many_random_searches() -> None:
    rng = np.random.default_rng(0)
    fitting = np.sort(rng.normal(size=50))[::-1]
    drawn = np.array([np.maximum.accumulate(rng.permutation(fitting)[:20]) for _ in range(4000)])
    error = drawn.std(0) / 4000**0.5
    assert (np.abs(expected_random_search(fitting, 20) - drawn.mean(0)) < 4.5 * error).all()
    assert expected_random_search(fitting, 50)[-1] == pytest.approx(fitting[0])


def test_every_arch_of_a_small_space_is_enumerated_once() -> None:
    space = SearchSpace.from_dict(SPACE)
    archs = all_archs(space)
    assert len(archs) == len(set(archs)) == space.count()
    assert all(arch in space for arch in archs)


@pytest.mark.slow
def test_the_script_writes_figures_and_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--engines", "evolution", "--problems", "1", "--seeds", "2", "--candidates", "300"]
    monkeypatch.setattr(sys, "argv", ["search_engines", f"--out={tmp_path}", *options])
    search_engines.main()
    figures = json.loads((tmp_path / "study.json").read_text())
    assert figures["engines"]["evolution"]["of_seeds"] == 2
    assert figures["predicted_search"]["seconds"] > 0
    assert cv2.imread(str(tmp_path / "study.png")) is not None
