"""The report of a weight-sharing study with all scores, or with some missing."""

from pathlib import Path

import pytest

from scripts.studies.sharing_archs import RankAgreement
from scripts.studies.sharing_report import (
    ComparedArch,
    Scores,
    agreements,
    compared,
    draw,
    markdown,
    means,
    reaches_aim,
)
from supernet.pose.data.image_decoding import read_image

pytestmark = pytest.mark.drawings

ARCHS = [ComparedArch("small", 42_700_000), ComparedArch("middle", 80_000_000), ComparedArch("large", 169_000_000)]
ALONE: Scores = [[0.20, 0.25, 0.30], [0.22, 0.23, 0.32]]
SHARED: dict[str, Scores] = {
    "progressive": [[0.19, 0.23, 0.30], [0.19, 0.23, 0.30]],
    "sandwich": [[0.15, 0.14, 0.13], [0.15, 0.14, None]],
}


def test_a_mean_needs_the_scores_of_all_seeds() -> None:
    assert means(ALONE) == pytest.approx([0.21, 0.24, 0.31])
    assert means(SHARED["sandwich"])[2] is None


def test_only_archs_with_both_scores_are_compared() -> None:
    result = compared([0.2, 0.3, None], [0.1, 0.2, 0.9])
    assert result is not None
    assert result.num == 2
    assert [result.kendall_tau, result.median_gap] == pytest.approx([1, 0.1])
    assert compared([None, 0.2], [0.1, None]) is None


def test_agreements_are_of_means_of_each_seed_and_between_seeds_alone() -> None:
    by_strategy = agreements(ALONE, SHARED)
    assert by_strategy["progressive"]["mean"]["median_gap"] == pytest.approx(0.01)
    assert [result["kendall_tau"] for result in by_strategy["progressive"]["by_seed"]] == pytest.approx([1, 1])
    assert by_strategy["sandwich"]["mean"]["num"] == 2
    (between,) = by_strategy["alone, between seeds"]["by_seed"]
    assert between["largest_gap"] == pytest.approx(0.02)
    assert agreements(ALONE[:1], {})["alone, between seeds"]["by_seed"] == []


def test_the_tables_hold_scores_gaps_and_whether_the_aim_is_reached() -> None:
    text = markdown(ARCHS, ALONE, SHARED, ["Above."], "Below.")
    lines = text.splitlines()
    assert "| 0: small | 42.7 M | 0.210 | 0.190 | 0.150 | +0.020 | +0.060 |" in lines
    assert "| 2: large | 169.0 M | 0.310 | 0.300 |  | +0.010 |  |" in lines
    assert "| progressive | 3 of 3 | 1.00 | +0.010 | +0.020 | no |" in lines
    assert "| sandwich | 2 of 3 | -1.00 | +0.080 | +0.100 | no |" in lines
    assert "| alone, another seed | 3 of 3 | 1.00 | +0.020 | +0.020 |  |" in lines
    assert lines.index("Above.") < lines.index("Below.")


def test_the_aim_is_no_median_gap_no_large_gap_and_nearly_the_same_order() -> None:
    assert reaches_aim(RankAgreement(8, 0.8, 0.0, 0.02))
    assert not reaches_aim(RankAgreement(8, 0.79, 0.0, 0.02))
    assert not reaches_aim(RankAgreement(8, 0.8, 0.001, 0.02))
    assert not reaches_aim(RankAgreement(8, 0.8, 0.0, 0.021))
    assert not reaches_aim(RankAgreement(1, None, 0.0, 0.0))


def test_a_strategy_without_scores_has_no_line() -> None:
    nothing: Scores = [[None, None, None]]
    text = markdown(ARCHS, ALONE[:1], {"progressive": nothing}, [], "")
    assert "strategy" not in text
    assert "| 0: small | 42.7 M | 0.200 |  |  |" in text


def test_the_image_is_drawn_if_there_is_a_point(tmp_path: Path) -> None:
    nothing: Scores = [[None, None, None]]
    assert not draw(tmp_path / "empty.png", ALONE[:1], {"progressive": nothing})
    assert not any(tmp_path.iterdir())
    assert draw(tmp_path / "some.png", ALONE, SHARED)
    height, width, _ = read_image(tmp_path / "some.png").shape
    assert min(height, width) > 500
