"""Several finished searches on one page, with an order only where their images support one."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from search.report import image_results
from search.report.__main__ import main
from search.report.comparison import comparison, order_of_choices
from search.report.finished_search import read_searches
from supernet.errors import UserError
from tests.search.report.test_intervals import NUM_IMAGES, matches, rows_of, summary_of

pytestmark = pytest.mark.drawings


def finished(folder: Path, share: float, images: str = "same", keeps_matches: bool = True, **more: Any) -> Path:
    """Write what a search leaves: its chosen subnet finds ``share`` of the people."""
    rows, intervals = rows_of([share, share / 2, share / 3])
    summary = summary_of(rows) | {"images": {"val": images, "test": images}, "constraint": {"macs": "150M"}} | more
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "candidates.json").write_text(json.dumps(rows))
    if keeps_matches:
        image_results.save(folder, intervals.matches)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["report", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_searches_are_compared_on_one_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    finished(runs / "evolve" / "first", 0.9)
    finished(runs / "optuna_search" / "second", 0.4)
    assert run(monkeypatch, "first", runs / "optuna_search" / "second", "--runs", runs) == 0
    folder = runs / "report" / "latest"
    text = (folder / "report.html").read_text()
    assert "The choice of first has an AP above that of second" in capsys.readouterr().out
    assert json.loads((folder / "summary.json").read_text())["order"]
    titles = re.findall(r'"xaxis":\{"title":\{"text":"([^"]+)"', text)
    assert titles[:2] == ["multiply-adds per square input", "parameters"]
    data = re.search(r'id="candidates">(.*?)</script>', text)
    assert data is not None
    candidates = json.loads(data[1])
    assert len(candidates) == 6
    assert {name.split()[0] for name in candidates} == {"first", "second"}


def test_candidates_scored_on_more_images_are_compared_by_their_scores_on_as_many_as_all(tmp_path: Path) -> None:
    folder = finished(tmp_path / "a", 0.9)
    rows = json.loads((folder / "candidates.json").read_text())
    first = {"num_images": rows[0]["num_images"], "metrics": rows[0]["metrics"]}
    rescored = rows[0] | {"num_images": 500, "metrics": {"AP": 0.1}, "earlier_scores": [first]}
    (folder / "candidates.json").write_text(json.dumps([rescored, *rows[1:]]))
    (search,) = read_searches([str(folder)], tmp_path)
    assert [row["metrics"] for row in search.scored.rows] == [row["metrics"] for row in rows]


def test_the_budgets_of_searches_have_units(tmp_path: Path) -> None:
    folder = finished(tmp_path / "a", 0.5, constraint={"latency": 100 / 3, "memory": 64_000_000, "min_macs": None})
    assert ">latency=33.33 ms, memory=64 MB<" in comparison(read_searches([str(folder)], tmp_path))


def test_an_order_is_claimed_only_where_it_is_known(tmp_path: Path) -> None:
    finished(tmp_path / "high", 0.9)
    finished(tmp_path / "low", 0.4)
    finished(tmp_path / "even", 0.9)
    finished(tmp_path / "other", 0.4, images="others")
    finished(tmp_path / "bare", 0.4, keeps_matches=False)

    def order(*names: str) -> str:
        return " ".join(order_of_choices(read_searches([str(tmp_path / name) for name in names], tmp_path)))

    assert "low has an AP below that of high" in order("low", "high")
    assert "cannot be decided" in order("high", "even")
    assert "not comparable" in order("high", "other")
    assert "not known" in order("high", "bare")
    assert "above" not in order("high", "other") + order("high", "bare") + order("high", "even")
    assert "one search" in order("high")


def test_searches_of_one_name_are_named_by_their_folders(tmp_path: Path) -> None:
    places = [str(finished(tmp_path / command / "a", 0.5)) for command in ("evolve", "optuna_search")]
    assert [search.name for search in read_searches(places, tmp_path)] == ["evolve/a", "optuna_search/a"]


@pytest.mark.parametrize("change", ["no candidates", "no chosen", "AP", "costs", "arch", "text"])
def test_a_damaged_search_is_refused(tmp_path: Path, change: str) -> None:
    folder = finished(tmp_path / "a", 0.5)
    summary, rows = (json.loads((folder / name).read_text()) for name in ("summary.json", "candidates.json"))
    if change == "no candidates":
        rows = []
    elif change == "no chosen":
        del summary["chosen"]
    elif change == "AP":
        rows[0]["metrics"]["AP"] = "high"
    elif change == "costs":
        del rows[0]["costs"]["macs"]
    elif change == "arch":
        rows[0]["arch"] = {}
    (folder / "summary.json").write_text("{" if change == "text" else json.dumps(summary))
    (folder / "candidates.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match="a"):
        read_searches([str(folder)], tmp_path)


def test_wrong_names_end_with_one_sentence_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(tmp_path / "evolve" / "a", 0.5)
    cases: tuple[tuple[list[str | Path], str], ...] = (([folder, "b"], "search b"), ([folder, "a"], "named twice"))
    for words, wrong in cases:
        assert run(monkeypatch, *words, "--runs", tmp_path) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert wrong in line
    assert not (tmp_path / "report").exists()


def test_no_text_of_others_becomes_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "<img src=http://x.test/>"
    folder = finished(tmp_path / "a", 0.5, supernet=evil, objectives=[evil], constraint={"macs": evil})
    rows = json.loads((folder / "candidates.json").read_text())
    for row in rows:
        row["origin"] = row["digest"] = f"{evil}{row['order']}"
    (folder / "candidates.json").write_text(json.dumps(rows))
    assert run(monkeypatch, folder, "--output", tmp_path / "page") == 0
    assert evil not in (tmp_path / "page" / "report.html").read_text()
    assert matches(0.5).num_images == NUM_IMAGES
