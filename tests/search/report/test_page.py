"""The report of a search: its content, that it loads nothing from elsewhere, and reports of very small runs."""

import html
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from search.budget import Budget, CostModel
from search.cost import macs
from search.report import figures
from search.report import page as report_page
from search.report.image_results import NONE
from search.report.intervals import Intervals
from supernet.arch import Arch
from supernet.space import SearchSpace
from tests.helpers.latency_tables import NUM_KEYPOINTS, fake_table
from tests.helpers.latency_tables import SPACE as TABLE_SPACE

pytestmark = pytest.mark.drawings

NANO = SearchSpace.load("nano")
MODEL = CostModel(NANO, 17)
FREE = Budget((), MODEL)
Row = dict[str, Any]


def candidates(num: int, equal: bool = False) -> list[Row]:
    rng = np.random.default_rng(0)
    archs = list(dict.fromkeys(NANO.sample(rng) for _ in range(2 * num)))[:num]
    return [
        {
            "order": i,
            "generation": i // 4,
            "origin": "random" if i < 4 else "mutation",
            "digest": arch.digest(),
            "costs": MODEL.of(arch),
            "metrics": {"AP": 0.25 if equal else macs(arch, 17) / 1e9},
            "num_images": 100,
            "arch": arch.to_dict(),
        }
        for i, arch in enumerate(archs)
    ]


def summary_of(rows: list[Row], **more: Any) -> Row:
    best = max(rows, key=lambda row: row["metrics"]["AP"])
    chosen = best | {"metrics": {"val": best["metrics"], "test": {"AP": 0.2}}}
    value = {
        "space": "nano",
        "keypoints": "coco",
        "chosen": chosen,
        "num_test_images": 300,
        "dataset_kind": "synthetic",
    }
    return value | more


class Page(HTMLParser):
    """The tags of a page with their attributes, and its texts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(path.read_text("utf-8"))
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def drawn(self) -> list[list[Row]]:
        """Return the series of each chart, as they are passed to plotly."""
        plots = [text for tag, text in self.texts if tag == "script" and "Plotly.newPlot(" in text and len(text) < 1e6]

        def refuse(value: str) -> float:
            raise AssertionError(f"{value} is not JSON")

        decode = json.JSONDecoder(parse_constant=refuse).raw_decode
        return [decode(text, re.search(r'newPlot\(\s*"[^"]+",\s*', text).end())[0] for text in plots]  # type: ignore[union-attr]


def cells(page: Page) -> list[str]:
    return [text for tag, text in page.texts if tag == "td"]


def test_the_page_is_complete_and_loads_nothing(tmp_path: Path) -> None:
    rows = candidates(24)
    budget = Budget.from_mapping({"macs": "150M", "min_params": "100K"}, MODEL)
    subnets = [{"costs": row["costs"], "metrics": {"AP": 0.1}} for row in rows[:3]]
    baseline = {"num": 3, "ap_mean": 0.1, "subnets": subnets}
    page = Page(report_page.write(tmp_path, summary_of(rows, baseline=baseline), rows, budget))
    assert all(path.is_file() for path in map(tmp_path.joinpath, report_page.IMAGE_FILES))
    assert len(list(tmp_path.iterdir())) == 5
    for _, attributes in page.tags:
        assert attributes.get("src", "data:") is not None
        assert (attributes.get("src") or "data:").startswith("data:")
        assert "href" not in attributes
    assert not any("Error bars" in text for tag, text in page.texts if tag == "p")  # of a search without matches
    # The trade-offs of two costs, the final check and the resolutions, then progress and importance.
    charts = page.drawn()
    assert len(charts) == 6
    names = [[series.get("name") for series in chart] for chart in charts]
    assert "budget: at most 150 M" in names[0]
    assert "budget: at least 100 K" in names[1]
    assert "random within the budget" in names[2]
    # Progress has a point for each candidate, and the best so far never falls.
    assert len(charts[4][0]["x"]) == 24
    best = charts[4][1]["y"]
    assert best == sorted(best)
    assert best[-1] == max(row["metrics"]["AP"] for row in rows)


@pytest.mark.parametrize("num", [1, 2, 13])
@pytest.mark.parametrize("equal", [False, True])
def test_no_run_is_too_small_or_too_even(tmp_path: Path, num: int, equal: bool) -> None:
    rows = candidates(num, equal)
    summary = summary_of(rows)
    del summary["chosen"]["metrics"]["test"]
    page = Page(report_page.write(tmp_path, summary, rows, FREE))
    has_importance = num == 13 and not equal
    assert (tmp_path / "importance.png").exists() == has_importance
    assert len(page.drawn()) == 4 + has_importance
    text = " ".join(text for _, text in page.texts)
    assert ("Kendall tau" in text) == has_importance
    for name in ("pareto.png", "progress.png", "arch.png"):
        image = cv2.imread(str(tmp_path / name))
        assert image is not None
        assert image.std() > 5


def test_no_text_of_others_becomes_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=http://x.test/>"
    rows = candidates(5)
    for row in rows:
        row["origin"] = row["digest"] = f"{evil}{row['order']}"
    page = Page(report_page.write(tmp_path, summary_of(rows, supernet=evil, space=evil, dataset_kind=evil), rows, FREE))
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 1
    # The library and the scripts of the page, its data, and one for each chart.
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3 + len(page.drawn())
    # Notes are escaped, because plotly interprets them as markup.
    notes = [note for chart in page.drawn() for series in chart for note in series.get("customdata", ())]
    assert any(html.escape(evil) in note for note in notes)
    assert all("<" not in note for note in notes)


def test_the_best_subnets_are_listed_with_all_that_was_measured(tmp_path: Path) -> None:
    rows = candidates(14)
    ranked = sorted(rows, key=lambda row: -row["metrics"]["AP"])
    ranked[1]["predicted"] = 0.12345
    finalists = [row | {"num_images": 300, "metrics": {"AP": 0.5 + 0.1 * i}} for i, row in enumerate(ranked[:2])]
    finalists[0]["costs"] = finalists[0]["costs"] | {"measured_latency_ms": 12.346}
    page = Page(report_page.write(tmp_path, summary_of(rows, finalists=finalists), rows, FREE))
    texts = cells(page)
    assert [row["digest"] for row in ranked[:10]] == [text for text in texts if re.fullmatch("[0-9a-f]{12}", text)]
    for text in ("0.123", "12.35", "0.500", "0.600", "0.200", f"{ranked[9]['metrics']['AP']:.3f}"):
        assert text in texts
    assert Arch.from_dict(ranked[0]["arch"]).describe() in texts


@pytest.mark.parametrize(
    ("kind", "keypoints", "shown"), [("coco", "coco", True), ("synthetic", "coco", False), ("coco", "crowdpose", False)]
)
def test_published_ap_stands_beside_ap_on_the_same_data_only(
    tmp_path: Path, kind: str, keypoints: str, shown: bool
) -> None:
    rows = candidates(3)
    page = Page(report_page.write(tmp_path, summary_of(rows, keypoints=keypoints, dataset_kind=kind), rows, FREE))
    names = [series["name"] for chart in page.drawn() for series in chart]
    assert ("published LitePose XS, S, M, L" in names) == shown
    text = " ".join(text for _, text in page.texts)
    assert ("LitePose-XS 88" in text) != shown  # its costs in the remark
    hidden = [series.get("visible") for chart in page.drawn() for series in chart if "published" in series["name"]]
    assert set(hidden) <= {"legendonly"}


def test_published_costs_within_the_chart_are_marked() -> None:
    rows = candidates(3)
    for row, cost in zip(rows, (8e8, 2e9, 4e9), strict=True):
        row["costs"]["macs"] = cost
    scored = figures.Scored(rows, "", Intervals(NONE))
    chart = figures.trade_off(scored, "macs", [], None)
    marked, _ = figures.with_published_costs(chart, "macs", "coco")
    assert [mark.name.split()[0] for mark in marked.marks] == ["LitePose-XS", "LitePose-S"]


def test_published_costs_keep_the_name_of_the_network() -> None:
    scored = figures.Scored(candidates(3), "", Intervals(NONE))
    _, text = figures.with_published_costs(figures.trade_off(scored, "macs_paper", [], None), "macs_paper", "coco")
    assert text.startswith("Multiply-adds per square input, LitePose's counting of published networks: LitePose-XS")


def test_candidates_are_compared_on_equally_many_images() -> None:
    rows = candidates(6)
    rescored = [row | {"num_images": 300, "metrics": {"AP": 0.9}} for row in rows[:2]]
    assert figures.comparable([*rows[::-1], *rescored]) == rows
    all_rescored = [row | {"num_images": 300} for row in rows]
    assert figures.comparable([*rows, *all_rescored]) == all_rescored


def test_the_expected_best_of_random_draws_is_a_mean_over_all_choices() -> None:
    values = [0.3, 0.1, 0.1, 0.5, 0.2]
    for number in range(1, 6):
        expected = np.mean([max(choice) for choice in itertools.combinations(values, number)])
        assert figures.expected_best(values, number) == pytest.approx(expected)


def test_the_expected_best_of_many_draws_is_near_their_maximum() -> None:
    values = list(np.random.default_rng(0).random(5000))
    assert figures.expected_best(values, 5000) == pytest.approx(max(values))
    assert figures.expected_best(values, 1) == pytest.approx(np.mean(values))
    assert figures.expected_best(values, 100) == pytest.approx(
        100 / 101, abs=0.003
    )  # the expected maximum of 100 uniform values


def test_every_candidate_can_be_selected_and_its_arch_downloaded(tmp_path: Path) -> None:
    rows = candidates(14)
    page = Page(report_page.write(tmp_path, summary_of(rows), rows, FREE))
    texts = [text for tag, text in page.texts if tag == "script" and text.startswith('{"')]
    (embedded,) = (json.loads(text) for text in texts)
    assert {name: value["arch"] for name, value in embedded.items()} == {row["digest"]: row["arch"] for row in rows}
    keys = {key for chart in page.drawn() for series in chart for key in series.get("ids", ())}
    assert keys == embedded.keys()
    saved = [attributes["data-save"] for tag, attributes in page.tags if tag == "button"]
    assert len(saved) == 11
    assert set(saved) <= embedded.keys()


def test_fronts_of_all_costs_stand_side_by_side(tmp_path: Path) -> None:
    model = CostModel(TABLE_SPACE, NUM_KEYPOINTS, fake_table())
    rows = candidates(6)
    for row, arch in zip(rows, [TABLE_SPACE.smallest(), TABLE_SPACE.largest()] * 3, strict=True):
        row |= {"costs": model.of(arch), "arch": arch.to_dict()}
    text = report_page.write(tmp_path, summary_of(rows), rows, Budget((), model)).read_text()
    for label in ("multiply-adds per square input", "parameters", "predicted latency, ms"):
        assert f'"title":{{"text":"{label}"}}' in text
