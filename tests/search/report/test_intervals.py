"""Intervals and findings of a search: exact against brute force, and no order where the images do not support one."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.budget import Budget, CostModel
from search.report import figures, image_results
from search.report.charts import Series
from search.report.figures import Scored
from search.report.findings import NO_INTERVALS, findings
from search.report.importance import importance_intervals
from search.report.intervals import Intervals, is_order_known, not_distinguishable, show
from search.report.sparkline import in_words, sparkline
from search.report.subnet_table import table
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.pose.metrics.image_matches import ImageMatches, interval, resamples
from supernet.space import SearchSpace

NANO = SearchSpace.load("nano")
MODEL = CostModel(NANO, 17)
BUDGET = Budget.from_mapping({"macs": "150M"}, MODEL)
NUM_IMAGES = 80
Row = dict[str, Any]


def matches(share: float, seed: int = 0) -> ImageMatches:
    """Return one person an image, found in the first ``share`` of the images, in an order that ``seed`` draws."""
    found = np.random.default_rng(seed).permutation(NUM_IMAGES)[: round(share * NUM_IMAGES)]
    flags = np.ones((len(found), 10), bool)
    return ImageMatches(np.ones(NUM_IMAGES, np.int64), found.astype(np.int64), flags, ~flags)


def rows_of(shares: list[float]) -> tuple[list[Row], Intervals]:
    """Return candidates that find a share of the people, and their matches."""
    rng = np.random.default_rng(1)
    archs = list(dict.fromkeys(NANO.sample(rng) for _ in range(3 * len(shares))))[: len(shares)]
    rows, texts = [], {}
    for i, (arch, share) in enumerate(zip(archs, shares, strict=True)):
        own = matches(share)
        ap = float(own.average_precision(np.ones((1, NUM_IMAGES), np.int64))[0])
        rows.append(
            {
                "order": i,
                "generation": 0,
                "origin": "random",
                "digest": arch.digest(),
                "costs": MODEL.of(arch),
                "metrics": {"AP": ap},
                "num_images": NUM_IMAGES,
                "arch": arch.to_dict(),
            }
        )
        texts[arch.digest()] = own.to_text()
    return rows, Intervals({"val": {NUM_IMAGES: texts}, "test": {NUM_IMAGES: texts}})


def summary_of(rows: list[Row]) -> Row:
    best, others = rows[0], rows[1:4]
    chosen = best | {"metrics": {"val": best["metrics"], "test": best["metrics"]}}
    return {"chosen": chosen, "num_test_images": NUM_IMAGES, "baseline": {"subnets": others}}


def test_intervals_are_those_of_the_same_draws_for_all_subnets() -> None:
    rows, intervals = rows_of([0.8, 0.7])
    draws = resamples(NUM_IMAGES, np.random.default_rng(0))
    first, second = (matches(share).average_precision(draws) for share in (0.8, 0.7))
    names = [row["digest"] for row in rows]
    assert intervals.of("val", NUM_IMAGES, names[0]) == interval(first)
    assert intervals.difference("test", NUM_IMAGES, *names) == interval(first - second)
    mean = interval(first - (first + second) / 2)
    assert intervals.difference_from_mean("val", NUM_IMAGES, names[0], names) == pytest.approx(mean)
    assert intervals.of("val", 3, names[0]) is None
    assert intervals.of("val", NUM_IMAGES, "unknown") is None


def test_subnets_are_tied_with_the_best_unless_the_difference_is_known() -> None:
    # The second finds a part of what the first finds: one image less, then a third less.
    rows, intervals = rows_of([0.8, 0.79, 0.5])
    rows[1]["digest_text"] = ""
    tied, is_known = not_distinguishable(intervals, rows, NUM_IMAGES)
    assert is_known
    assert rows[0]["digest"] in tied
    assert rows[2]["digest"] not in tied
    del intervals.matches["val"][NUM_IMAGES][rows[2]["digest"]]  # type: ignore[attr-defined]
    unknown, _ = not_distinguishable(Intervals(intervals.matches), rows, NUM_IMAGES)
    assert rows[2]["digest"] in unknown
    same, _ = rows_of([0.8, 0.8])
    assert {row["digest"] for row in same} == not_distinguishable(rows_of([0.8, 0.8])[1], same, NUM_IMAGES)[0]
    assert not_distinguishable(Intervals(image_results.NONE), rows, NUM_IMAGES) == ({rows[0]["digest"]}, False)
    assert not is_order_known(None)
    assert not is_order_known((-0.1, 0.1))
    assert is_order_known((0.01, 0.1))


def test_no_order_is_claimed_where_the_difference_may_be_chance() -> None:
    even, intervals = rows_of([0.6, 0.6, 0.6, 0.6, 0.6])
    texts = {row["digest"]: matches(0.6, seed).to_text() for seed, row in enumerate(even)}
    intervals = Intervals({"val": {NUM_IMAGES: texts}, "test": {NUM_IMAGES: texts}})
    text = " ".join(findings(summary_of(even), Scored(even, even[0]["digest"], intervals), BUDGET, ["macs"]))
    assert "cannot be decided" in text
    assert "better than the mean" not in text
    assert "5 of 5 subnets cannot be distinguished" in text
    clear, intervals = rows_of([0.9, 0.4, 0.4, 0.4, 0.3])
    text = " ".join(findings(summary_of(clear), Scored(clear, clear[0]["digest"], intervals), BUDGET, ["macs"]))
    assert "better than the mean" in text
    assert "above the best" in text
    assert "distinguishable from all others" in text
    assert "at most 150 M" in text


def test_no_order_is_claimed_of_subnets_that_were_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("intervals", "findings", "subnet_table"):
        monkeypatch.setattr(f"search.report.{module}.MOST_SUBNETS", 3, raising=False)
    even, _ = rows_of([0.6, 0.6, 0.6, 0.6, 0.6])
    texts = {row["digest"]: matches(0.6, seed).to_text() for seed, row in enumerate(even)}
    scored = Scored(even, even[0]["digest"], Intervals({"val": {NUM_IMAGES: texts}, "test": {NUM_IMAGES: texts}}))
    assert "3 of the 3 best subnets cannot" in " ".join(findings(summary_of(even), scored, BUDGET, ["macs"]))
    text = table(summary_of(even), scored, BUDGET, ["macs"])
    assert text.count("may be the best") == 3
    assert "below the best" not in text
    clear, intervals = rows_of([0.9, 0.4, 0.4, 0.4, 0.3])
    scored = Scored(clear, clear[0]["digest"], intervals)
    assert "from the 2 next best" in " ".join(findings(summary_of(clear), scored, BUDGET, ["macs"]))
    assert table(summary_of(clear), scored, BUDGET, ["macs"]).count("below the best") == 2


def test_without_matches_the_findings_say_that_nothing_is_known() -> None:
    rows, _ = rows_of([0.9, 0.3, 0.3, 0.3])
    scored = Scored(rows, rows[0]["digest"], Intervals(image_results.NONE))
    sentences = findings(summary_of(rows), scored, BUDGET, ["macs"])
    assert sentences[0] == NO_INTERVALS
    assert "better than" not in " ".join(sentences)
    assert "may be the best" not in table(summary_of(rows), scored, BUDGET, ["macs"])


def test_the_table_shows_intervals_and_who_may_be_the_best() -> None:
    rows, intervals = rows_of([0.8, 0.8, 0.3])
    scored = Scored(rows, rows[0]["digest"], intervals)
    text = table(summary_of(rows), scored, BUDGET, ["macs"])
    assert text.count("may be the best") == 2
    assert text.count("below the best") == 1
    assert show(rows[2]["metrics"]["AP"], scored.interval(rows[2])) in text
    assert all(sparkline(Arch.from_dict(row["arch"])) in text for row in rows)


def test_charts_carry_the_intervals() -> None:
    rows, intervals = rows_of([0.9, 0.6, 0.5])
    scored = Scored(rows, rows[0]["digest"], intervals)
    star = figures.trade_off(scored, "macs", [], None).series[-1]
    assert star.errors == (scored.interval(rows[0]),)
    check = figures.final_check(summary_of(rows), "macs", [], intervals)
    assert check is not None
    assert check.series[0].errors == (scored.interval(rows[1]), scored.interval(rows[2]))
    by_size = figures.by_resolution(scored).series[1]
    assert all(by_size.errors)


def test_error_bars_reach_the_ends_of_the_intervals() -> None:
    points = Series("", (1.0, 2.0, 3.0), (0.5, 0.6, 0.7), "points", "", errors=((0.4, 0.7), None, (0.8, 0.9)))
    below, above = points.error_lengths()
    assert below == pytest.approx([0.1, 0, 0])
    assert above == pytest.approx([0.2, 0, 0.2])
    bars = Series("", (1.0,), (0.0,), "bars", "", errors=((0.5, 2.0),))
    assert bars.error_lengths() == ([0.5], [1.0])


def test_the_interval_of_an_importance_grows_with_the_noise_of_the_scores() -> None:
    genes = NANO.layout.sample(np.random.default_rng(0), 40)
    score = np.array([arch.resolution / 16 for arch in NANO.decode(genes)])
    rng = np.random.default_rng(2)
    quiet = score[:, None] + rng.normal(0, 0.01, (40, 20))
    noisy = score[:, None] + rng.normal(0, 3.0, (40, 20))
    (narrow, wide) = (importance_intervals(NANO, genes, values, np.random.default_rng(3)) for values in (quiet, noisy))
    low, high = narrow["resolution"]
    assert 0 < low < high
    others = [name for name in narrow if name != "resolution"]
    assert max(narrow[name][1] for name in others) < low
    assert np.median([np.ptp(wide[name]) for name in others]) > 3 * np.median([np.ptp(narrow[name]) for name in others])


def test_a_sparkline_has_a_bar_for_each_block_by_kernel_and_ratio() -> None:
    arch = NANO.sample(np.random.default_rng(4))
    svg = ET.fromstring(sparkline(arch))
    bars = svg.findall("rect")
    blocks = [(k, e) for stage in arch.stages for k, e in zip(stage.kernel_sizes, stage.expand_ratios, strict=True)]
    assert [bar.get("class") for bar in bars] == [f"k{kernel_size}" for kernel_size, _ in blocks]
    heights = [float(bar.get("height") or 0) for bar in bars]
    assert np.argsort(heights, kind="stable").tolist() == np.argsort([e for _, e in blocks], kind="stable").tolist()
    assert [text.text for text in svg.findall("text")] == [str(arch.resolution), *(str(s.width) for s in arch.stages)]
    words = in_words(arch)
    assert [int(digit) for part in re.findall(r"k (\d+)", words) for digit in part] == [k for k, _ in blocks]


def test_matches_are_read_back_and_damaged_files_refused(tmp_path: Path) -> None:
    kept = {"val": {100: {"a": "x"}, 300: {"b": "y"}}, "test": {}}
    image_results.save(tmp_path, kept)
    assert image_results.load(tmp_path) == kept
    assert image_results.load(tmp_path / "earlier") == image_results.NONE
    damaged: Any
    for damaged in ({"format": 2}, {"format": 1, "val": {}}, {"format": 1, "val": {"x": {}}, "test": {}}, []):
        (tmp_path / image_results.FILE).write_text(json.dumps(damaged))
        with pytest.raises(UserError, match=image_results.FILE):
            image_results.load(tmp_path)
