"""Search runs from a supernet file to arch.json, on synthetic images and with free scores."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from search.cost import COSTS, arch_costs
from search.report.finished_search import read_searches
from search.runs import finish, problem
from search.runs.evaluator import Measurement
from search.runs.evolution_run import start_or_resume
from supernet.arch import Arch
from supernet.costs.latency_blocks import blocks_of_space
from supernet.costs.latency_file import Entry
from supernet.evaluation.readiness import check_ready
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import Subset
from supernet.pose.drawing import save_image
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from tests.helpers.latency_tables import block_ms, fake_table
from tests.helpers.searches import SPACE, TEST_SEED, VAL_SEED, Configure, FreeScores, read


def limit(name: str, slack: float) -> int:
    return int(COSTS[name](SPACE.smallest(), 17) * slack)


@pytest.mark.drawings
@pytest.mark.filterwarnings("ignore:there are no detections")
def test_a_run_writes_an_arch_all_candidates_images_and_a_summary(evolve_config: Configure, tmp_path: Path) -> None:
    macs = limit("macs", 2.5)
    folder = start_or_resume(evolve_config(f"constraint.macs={macs}"))
    assert folder == tmp_path / "evolve" / "run"
    assert (tmp_path / "evolve" / "latest").resolve() == folder.resolve()
    arch = Arch.load(folder / "arch.json")
    assert arch in SPACE
    assert COSTS["macs"](arch, 17) <= macs

    candidates = read(folder / "candidates.json")
    archs = [Arch.from_dict(row["arch"]) for row in candidates]
    assert len(set(archs)) == 12
    for order, (row, candidate_arch) in enumerate(zip(candidates, archs, strict=True)):
        assert row["order"] == order
        assert row["costs"] == arch_costs(candidate_arch, 17)
        assert row["costs"]["macs"] <= macs
        assert 0 <= row["metrics"]["AP"] <= 1
        assert row["num_images"] == 5

    summary = read(folder / "summary.json")
    assert summary["num_evaluations"] == 12
    assert (summary["num_validation_images"], summary["num_test_images"]) == (6, 4)
    assert summary["constraint"] == {"macs": macs}
    assert summary["objectives"] == ["ap"]
    assert [row["num_images"] for row in summary["finalists"]] == [6, 6]
    assert summary["baseline"]["num"] == summary["baseline"]["num_uniform"] == len(summary["baseline"]["subnets"]) == 3
    assert all(subnet["costs"]["macs"] <= macs for subnet in summary["baseline"]["subnets"])
    assert set(summary["versions"]) == {"python", "torch", "numpy", "opencv"}
    images = {"pareto.png", "progress.png", "arch.png"}  # 12 subnets are too few for importance.png
    assert all(cv2.imread(str(folder / image)) is not None for image in images)
    expected = {".lock", "arch.json", "candidates.json", "image_matches.json", "report.html", "scores.jsonl"}
    expected |= {"state.json", "summary.json"}
    assert {path.name for path in folder.iterdir()} == expected | images


def test_the_choice_is_made_on_val_and_checked_on_test(evolve_config: Configure, free_scores: FreeScores) -> None:
    folder = start_or_resume(evolve_config(f"constraint.params={limit('params', 1.5)}"))
    searched, checked = free_scores.on(VAL_SEED), free_scores.on(TEST_SEED)
    # 12 in the search, the best 2 again on all images, then the best and 3 random subnets on test images.
    assert [(seed, number) for seed, _, number in free_scores.scored] == [(2, 5)] * 12 + [(2, 6)] * 2 + [(3, 4)] * 4
    chosen = Arch.load(folder / "arch.json")
    assert chosen == checked[0] == max(searched, key=lambda arch: COSTS["params"](arch, 17))

    meta = read(folder / "arch.json")["meta"]
    assert meta["ap"] == {"val": free_scores.ap(2, chosen, 6), "test": free_scores.ap(3, chosen, 4)}
    assert meta["digest"] == chosen.digest()
    assert meta["space_digest"] == SPACE.digest()
    baseline = read(folder / "summary.json")["baseline"]
    aps = [free_scores.ap(TEST_SEED, arch, 4) for arch in checked[1:]]
    mean = sum(aps) / 3
    assert baseline["ap_best"] == max(aps)
    assert baseline["ap_mean"] == pytest.approx(mean)
    assert baseline["ap_sd"] == pytest.approx((sum((ap - mean) ** 2 for ap in aps) / 2) ** 0.5)


@pytest.mark.usefixtures("free_scores")
def test_equal_seeds_repeat_a_run(evolve_config: Configure) -> None:
    def trace(name: str, seed: int) -> tuple[str, str]:
        folder = start_or_resume(evolve_config(f"name={name}", f"seed={seed}"))
        return (folder / "candidates.json").read_text(), json.dumps(read(folder / "summary.json")["baseline"])

    first, again, other = trace("a", 5), trace("b", 5), trace("c", 6)
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_a_second_search_takes_known_scores_from_the_cache(evolve_config: Configure, free_scores: FreeScores) -> None:
    first = start_or_resume(evolve_config("name=a"))
    num = len(free_scores.scored)
    assert num == 12 + 2 + 4
    second = start_or_resume(evolve_config("name=b"))
    assert len(free_scores.scored) == num
    assert read(first / "summary.json")["num_scores"] == {"measured": 14, "reused": 0}
    assert read(second / "summary.json")["num_scores"] == {"measured": 0, "reused": 14}
    assert (first / "candidates.json").read_text() == (second / "candidates.json").read_text()
    start_or_resume(evolve_config("name=c", "num_calibration_images=3"))
    assert len(free_scores.scored) == 2 * num
    start_or_resume(evolve_config("name=d", "cache=null"))
    assert len(free_scores.scored) == 3 * num


def test_scores_with_other_images_are_not_reused(
    evolve_config: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scored: list[int] = []

    def measure(scorer: SubnetScorer, arch: Arch, images: PoseDataset) -> Measurement:
        scored.append(len(images))
        return Measurement({"AP": 0.5})

    monkeypatch.setattr(problem, "measure_subnet", measure)
    splits = {}
    for split, seed in (("train", 1), ("val", 2), ("test", 3)):
        people, folder = SyntheticPeople(COCO, 6, seed, 64, 64), tmp_path / split
        for image, sample in zip(people.ground_truth()["images"], (people[i] for i in range(6)), strict=True):
            save_image(folder / image["file_name"], sample.image)
        (tmp_path / f"{split}.json").write_text(json.dumps(people.ground_truth()))
        splits[split] = {"annotations": f"{split}.json", "images": split, "only_with_people": False}
    config = evolve_config("num_calibration_images=2")
    config["dataset"] = {"kind": "coco", "keypoints": "coco", "root": str(tmp_path), **splits}
    start_or_resume(config | {"name": "a"})
    num = len(scored)
    start_or_resume(config | {"name": "b"})
    assert len(scored) == num
    fewer = Subset(SyntheticPeople(COCO, 6, 1, 64, 64), range(4)).ground_truth()
    (tmp_path / "train.json").write_text(json.dumps(fewer))
    start_or_resume(config | {"name": "c"})
    assert len(scored) == 2 * num
    first, *_ = sorted((tmp_path / "val").iterdir())
    save_image(first, np.zeros((64, 64, 3), np.uint8))
    start_or_resume(config | {"name": "d"})
    assert 2 * num < len(scored) < 3 * num  # those on test images are as they were


def test_the_best_are_scored_on_more_images_before_the_final_check(
    evolve_config: Configure, free_scores: FreeScores
) -> None:
    folder = start_or_resume(evolve_config("num_images=[2,4]", "keep_share=0.25"))
    on_two, on_four = ([arch for _, arch, number in free_scores.scored[:-6] if number == n] for n in (2, 4))
    assert len(on_two) == len(set(on_two)) == 12
    assert 3 <= len(on_four) < 12
    assert max(on_two, key=lambda arch: COSTS["params"](arch, 17)) in on_four
    rows = read(folder / "candidates.json")
    assert sorted({row["num_images"] for row in rows}) == [2, 4]
    for row in rows:
        arch = Arch.from_dict(row["arch"])
        assert row["metrics"]["AP"] == free_scores.ap(VAL_SEED, arch, row["num_images"])
    (search,) = read_searches([str(folder)], folder)
    assert [row["num_images"] for row in search.scored.rows] == [2] * 12
    aps = [free_scores.ap(VAL_SEED, Arch.from_dict(row["arch"]), 2) for row in rows]
    assert [row["metrics"]["AP"] for row in search.scored.rows] == aps


@pytest.mark.usefixtures("free_scores")
def test_a_search_for_trade_offs_leaves_the_front_with_its_archs(evolve_config: Configure) -> None:
    folder = start_or_resume(evolve_config("objectives=[ap,macs]", "generations=5"))
    front, candidates = read(folder / "front.json"), read(folder / "candidates.json")

    def figures(row: dict[str, Any]) -> tuple[float, float]:
        return COSTS["params"](Arch.from_dict(row["arch"]), 17), -row["costs"]["macs"]

    def dominated(row: dict[str, Any]) -> bool:
        others = [figures(other) for other in candidates]
        ap, cost = figures(row)
        return any(other != (ap, cost) and other[0] >= ap and other[1] >= cost for other in others)

    best = sorted((row for row in candidates if not dominated(row)), key=lambda row: row["costs"]["macs"])
    assert [row["digest"] for row in front] == [row["digest"] for row in best]
    assert len(front) > 1
    assert all(row["num_images"] == 6 for row in front)
    files = {path.stem: Arch.load(path) for path in (folder / "front").iterdir()}
    assert files == {row["digest"]: Arch.from_dict(row["arch"]) for row in front}
    assert Arch.load(folder / "arch.json") == Arch.from_dict(front[-1]["arch"])


@pytest.mark.usefixtures("free_scores")
def test_a_predictor_proposes_and_is_tested_on_held_out_archs(
    evolve_config: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["predictor=true", "prediction.first=12", "prediction.num_candidates=50", "generations=5"]
    folder = start_or_resume(evolve_config(*options))
    rows = read(folder / "candidates.json")
    predicted = [row for row in rows if row["origin"] == "predicted"]
    assert {row["generation"] for row in predicted} == {3, 4}
    assert len(predicted) == 6
    assert all(("predicted" in row) == (row in predicted) for row in rows)
    prediction = read(folder / "summary.json")["prediction"]
    assert prediction["num_held_out"] == 20
    assert prediction["kendall_tau"] > 0.5
    assert f"Kendall tau {prediction['kendall_tau']:.2f}" in capsys.readouterr().out


@pytest.mark.usefixtures("free_scores")
def test_a_choice_that_is_measured_slower_than_the_budget_is_warned_of(
    evolve_config: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = replace(fake_table(SPACE), num_keypoints=17)
    entries = {block: Entry(block_ms(block), block_ms(block), 20) for block in blocks_of_space(SPACE, 17)}
    replace(table, entries=entries).save(tmp_path / "table.json")
    monkeypatch.setattr(finish, "measured_ms", lambda table, archs, progress: [500.0 + i for i in range(len(archs))])
    folder = start_or_resume(evolve_config(f"latency_table={tmp_path / 'table.json'}", "constraint.latency=450ms"))
    assert read(folder / "summary.json")["chosen"]["costs"]["measured_latency_ms"] == 500
    assert "500.00 ms; lower constraint.latency" in caplog.text
    monkeypatch.setattr(finish, "measured_ms", lambda table, archs, progress: [0.5] * len(archs))
    start_or_resume(
        evolve_config(f"latency_table={tmp_path / 'table.json'}", "constraint.min_latency=1ms", "name=fast")
    )
    assert "0.50 ms; raise constraint.min_latency" in caplog.text


def test_without_a_baseline_only_the_chosen_arch_is_checked(evolve_config: Configure, free_scores: FreeScores) -> None:
    folder = start_or_resume(evolve_config("baseline=0"))
    assert len(free_scores.on(TEST_SEED)) == 1
    assert read(folder / "summary.json")["baseline"]["ap_mean"] is None


@pytest.mark.usefixtures("free_scores")
def test_a_warning_says_when_val_and_test_have_the_same_images_which_are_loaded_once(
    evolve_config: Configure, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def record(splits: Mapping[str, PoseDataset], *others: Any) -> None:
        checked.extend(splits)
        check_ready(splits, *others)

    monkeypatch.setattr(problem, "check_ready", record)
    folder = start_or_resume(evolve_config("dataset=synthetic", f"dataset.test={{num_images: 300, seed: {VAL_SEED}}}"))
    assert read(folder / "summary.json")["test_is_validation"] is True
    assert checked == ["val"]
    assert [(record.levelno, "val and test" in record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, True)
    ]
