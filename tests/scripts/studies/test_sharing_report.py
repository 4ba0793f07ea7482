"""What a sharing study reports of scores that are all there, or only some of them."""

from pathlib import Path

import pytest

from scripts.studies.sharing_report import Compared, Scores, agreements, compared, draw, markdown, means
from supernet.pose.data.image_decoding import read_image

ARCHS = [Compared("small", 42_700_000), Compared("middle", 80_000_000), Compared("large", 169_000_000)]
ALONE: Scores = [[0.20, 0.25, 0.30], [0.22, 0.23, 0.32]]
SHARED: dict[str, Scores] = {
    "progressive": [[0.19, 0.23, 0.30], [0.19, 0.23, 0.30]],
    "sandwich": [[0.15, 0.14, 0.13], [0.15, 0.14, None]],
}


def test_a_mean_needs_the_scores_of_all_seeds() -> None:
    assert means(ALONE) == pytest.approx([0.21, 0.24, 0.31])
    assert means(SHARED["sandwich"])[2] is None


def test_only_archs_with_both_scores_are_compared() -> None:
    found = compared([0.2, 0.3, None], [0.1, 0.2, 0.9])
    assert found is not None
    assert found.num == 2
    assert [found.kendall_tau, found.median_gap] == pytest.approx([1, 0.1])
    assert compared([None, 0.2], [0.1, None]) is None


def test_agreements_tell_the_means_each_seed_and_how_seeds_agree_alone() -> None:
    found = agreements(ALONE, SHARED)
    assert found["progressive"]["mean"]["median_gap"] == pytest.approx(0.01)
    assert [each["kendall_tau"] for each in found["progressive"]["by_seed"]] == pytest.approx([1, 1])
    assert found["sandwich"]["mean"]["num"] == 2
    (between,) = found["alone, between seeds"]["by_seed"]
    assert between["largest_gap"] == pytest.approx(0.02)
    assert agreements(ALONE[:1], {})["alone, between seeds"]["by_seed"] == []


def test_the_tables_hold_scores_gaps_and_whether_the_aim_is_reached() -> None:
    text = markdown(ARCHS, ALONE, SHARED, ["Above."], "Below.")
    lines = text.splitlines()
    assert "| 0: small | 42.7 M | 0.210 | 0.190 | 0.150 | +0.020 | +0.060 |" in lines
    assert "| 2: large | 169.0 M | 0.310 | 0.300 |  | +0.010 |  |" in lines
    assert "| progressive | 3 of 3 | 1.00 | +0.010 | +0.020 | yes |" in lines
    assert "| sandwich | 2 of 3 | -1.00 | +0.080 | +0.100 | no |" in lines
    assert "| alone, another seed | 3 of 3 | 1.00 | +0.020 | +0.020 |  |" in lines
    assert lines.index("Above.") < lines.index("Below.")


def test_a_strategy_without_scores_has_no_line() -> None:
    nothing: Scores = [[None, None, None]]
    text = markdown(ARCHS, ALONE[:1], {"progressive": nothing}, [], "")
    assert "strategy" not in text
    assert "| 0: small | 42.7 M | 0.200 |  |  |" in text


def test_the_image_is_drawn_as_soon_as_there_is_a_point(tmp_path: Path) -> None:
    nothing: Scores = [[None, None, None]]
    assert not draw(tmp_path / "empty.png", ALONE[:1], {"progressive": nothing})
    assert not any(tmp_path.iterdir())
    assert draw(tmp_path / "some.png", ALONE, SHARED)
    height, width, _ = read_image(tmp_path / "some.png").shape
    assert min(height, width) > 500
