"""A search run from a supernet file to arch.json, with the built-in people and with scores that cost nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from search import problem
from search.cost import COSTS, arch_costs
from search.evolve_run import EvolveSettings, start_or_resume
from search.score_cache import file_digest
from supernet.arch import Arch
from supernet.checkpoint import SUPERNET_FILE, save_supernet
from supernet.errors import UserError
from supernet.pose.dataset import PoseDataset
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import COCO
from supernet.pose.objective import PoseObjective
from supernet.pose.synthetic import SyntheticPeople
from supernet.scoring import SubnetScorer
from supernet.settings import from_mapping
from supernet.space import SearchSpace
from supernet.weight_sharing import SuperNet

ROOT = Path(__file__).parents[2]
VAL_SEED, TEST_SEED = 2, 3
DATASET = {
    "kind": "synthetic",
    "keypoints": "coco",
    "width": 64,
    "height": 64,
    "train": {"num_images": 6, "seed": 1},
    "val": {"num_images": 6, "seed": VAL_SEED},
    "test": {"num_images": 4, "seed": TEST_SEED},
}
STAGE = {"widths": [8, 16], "depths": [1, 2], "stride": 2, "expand_ratios": [2, 3], "kernel_sizes": [3, 5]}
SPACE = SearchSpace.from_dict(
    {
        "name": "tiny",
        "resolutions": [64, 128],
        "stem_widths": [8],
        "stages": [STAGE, STAGE, STAGE, {**STAGE, "stride": 1}],
        "deconv_widths": [[8, 16], [8], [8]],
    }
)
Configure = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def supernet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as training leaves it, with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("train")
    state = SuperNet(SPACE, COCO.num).state_dict()
    save_supernet(folder / SUPERNET_FILE, SPACE, state, COCO, DATASET, asdict(InferenceSettings()), PoseObjective(17))
    return folder


@pytest.fixture
def configure(supernet_folder: Path, tmp_path: Path) -> Configure:
    """Makes the plain configuration of ``conf/evolve.yaml`` with overrides, small and kept in this test's folder."""
    small = [f"supernet={supernet_folder}", f"runs={tmp_path}", "population=4", "generations=3", "baseline=3"]
    small += [
        "num_images=5",
        "top_k=2",
        "num_calibration_images=4",
        "batch_size=4",
        "device=cpu",
        "threads=1",
        "name=run",
    ]

    def make(*overrides: str) -> dict[str, Any]:
        with initialize_config_module("conf", version_base="1.3"):
            config = OmegaConf.to_container(compose("evolve", [*small, *overrides]), resolve=True)
        assert isinstance(config, dict)
        return {str(key): value for key, value in config.items()}

    return make


class FreeScores:
    """Takes the place of evaluation: AP is known from the arch, from which pictures it is scored on and how many."""

    def __init__(self) -> None:
        self.scored: list[tuple[int, Arch, int]] = []
        self.stop_at = -1

    @staticmethod
    def ap(seed: int, arch: Arch, num_images: int = 0) -> float:
        return arch_costs(arch, 17)["params"] / 1e6 - seed / 100 - num_images / 1000

    def __call__(self, scorer: SubnetScorer, arch: Arch, pictures: PoseDataset) -> dict[str, float]:
        source: Any = pictures
        while not isinstance(source, SyntheticPeople):
            source = source._dataset
        self.scored.append((source.seed, arch, len(pictures)))
        if len(self.scored) == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"AP": self.ap(source.seed, arch, len(pictures)), "AP50": 0.5}

    def on(self, seed: int) -> list[Arch]:
        return [arch for scored_on, arch, _ in self.scored if scored_on == seed]


@pytest.fixture
def free_scores(monkeypatch: pytest.MonkeyPatch) -> FreeScores:
    found = FreeScores()
    monkeypatch.setattr(problem, "measured", found)
    return found


def limit(name: str, slack: float) -> int:
    return int(COSTS[name](SPACE.smallest(), 17) * slack)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.filterwarnings("ignore:there are no detections")
def test_a_run_leaves_an_arch_all_candidates_a_picture_and_a_summary(configure: Configure, tmp_path: Path) -> None:
    macs = limit("macs", 2.5)
    folder = start_or_resume(configure(f"constraint.macs={macs}"))
    assert folder == tmp_path / "evolve" / "run"
    assert (tmp_path / "evolve" / "latest").resolve() == folder.resolve()
    arch = Arch.load(folder / "arch.json")
    assert arch in SPACE
    assert COSTS["macs"](arch, 17) <= macs

    candidates = read(folder / "candidates.json")
    archs = [Arch.from_dict(row["arch"]) for row in candidates]
    assert len(set(archs)) == 12
    for order, (row, one) in enumerate(zip(candidates, archs, strict=True)):
        assert row["order"] == order
        assert row["costs"] == arch_costs(one, 17)
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
    pictures = {"pareto.png", "progress.png", "arch.png"}  # 12 subnets are too few to tell what matters
    assert all(cv2.imread(str(folder / picture)) is not None for picture in pictures)
    expected = {"arch.json", "candidates.json", "report.html", "scores.jsonl", "state.json", "summary.json"}
    assert {path.name for path in folder.iterdir()} == expected | pictures


def test_the_choice_is_made_on_val_and_checked_on_test(configure: Configure, free_scores: FreeScores) -> None:
    folder = start_or_resume(configure(f"constraint.params={limit('params', 1.5)}"))
    searched, checked = free_scores.on(VAL_SEED), free_scores.on(TEST_SEED)
    # 12 in the search, the best 2 again on all pictures, then the best and 3 random ones on test pictures.
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
def test_equal_seeds_repeat_a_run(configure: Configure) -> None:
    def trace(name: str, seed: int) -> tuple[str, str]:
        folder = start_or_resume(configure(f"name={name}", f"seed={seed}"))
        return (folder / "candidates.json").read_text(), json.dumps(read(folder / "summary.json")["baseline"])

    first, again, other = trace("a", 5), trace("b", 5), trace("c", 6)
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_a_second_search_takes_known_scores_from_the_cache(configure: Configure, free_scores: FreeScores) -> None:
    first = start_or_resume(configure("name=a"))
    num = len(free_scores.scored)
    assert num == 12 + 2 + 4
    second = start_or_resume(configure("name=b"))
    assert len(free_scores.scored) == num
    assert read(first / "summary.json")["num_scores"] == {"measured": 14, "reused": 0}
    assert read(second / "summary.json")["num_scores"] == {"measured": 0, "reused": 14}
    assert (first / "candidates.json").read_text() == (second / "candidates.json").read_text()
    start_or_resume(configure("name=c", "num_calibration_images=3"))
    assert len(free_scores.scored) == 2 * num
    start_or_resume(configure("name=d", "cache=null"))
    assert len(free_scores.scored) == 3 * num


def test_the_best_are_scored_on_more_pictures_before_the_final_check(
    configure: Configure, free_scores: FreeScores
) -> None:
    folder = start_or_resume(configure("num_images=[2,4]", "keep_share=0.25"))
    on_two, on_four = ([arch for _, arch, number in free_scores.scored[:-6] if number == n] for n in (2, 4))
    assert len(on_two) == len(set(on_two)) == 12
    assert 3 <= len(on_four) < 12
    assert max(on_two, key=lambda arch: COSTS["params"](arch, 17)) in on_four
    rows = read(folder / "candidates.json")
    assert sorted({row["num_images"] for row in rows}) == [2, 4]
    for row in rows:
        arch = Arch.from_dict(row["arch"])
        assert row["metrics"]["AP"] == free_scores.ap(VAL_SEED, arch, row["num_images"])


@pytest.mark.usefixtures("free_scores")
def test_a_search_for_trade_offs_leaves_the_front_with_its_archs(configure: Configure) -> None:
    folder = start_or_resume(configure("objectives=[ap,macs]", "generations=5"))
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
def test_a_predictor_proposes_and_is_judged_on_archs_held_out(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["predictor=true", "prediction.first=12", "prediction.num_candidates=50", "generations=5"]
    folder = start_or_resume(configure(*options))
    rows = read(folder / "candidates.json")
    predicted = [row for row in rows if row["origin"] == "predicted"]
    assert {row["generation"] for row in predicted} == {3, 4}
    assert len(predicted) == 6
    assert all(("predicted" in row) == (row in predicted) for row in rows)
    prediction = read(folder / "summary.json")["prediction"]
    assert prediction["num_held_out"] == 20
    assert prediction["kendall_tau"] > 0.5
    assert f"Kendall tau {prediction['kendall_tau']:.2f}" in capsys.readouterr().out


def test_without_a_baseline_only_the_chosen_one_is_checked(configure: Configure, free_scores: FreeScores) -> None:
    folder = start_or_resume(configure("baseline=0"))
    assert len(free_scores.on(TEST_SEED)) == 1
    assert read(folder / "summary.json")["baseline"]["ap_mean"] is None


@pytest.mark.usefixtures("free_scores")
def test_a_data_set_without_test_pictures_of_its_own_is_told(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = start_or_resume(configure("dataset=synthetic", f"dataset.test={{num_images: 300, seed: {VAL_SEED}}}"))
    assert read(folder / "summary.json")["test_is_validation"] is True
    assert "same pictures for val and test" in capsys.readouterr().out


@pytest.mark.parametrize("stop_at", [1, 3, 7, 12, 13, 16])
def test_a_signal_stops_a_run_that_then_goes_on_to_the_same_end(
    configure: Configure, free_scores: FreeScores, tmp_path: Path, stop_at: int
) -> None:
    whole = start_or_resume(configure("name=whole", "cache=null"))
    expected = free_scores.scored
    free_scores.scored, free_scores.stop_at = [], stop_at
    folder = tmp_path / "evolve" / "run"
    said = f"stopped after {stop_at} evaluations" if stop_at <= 12 else "stopped in the final check"
    with pytest.raises(UserError, match=rf"{said}; continue with resume={folder}"):
        start_or_resume(configure("cache=null"))
    assert len(read(folder / "candidates.json")) == min(stop_at, 12)
    resumed = start_or_resume(configure("cache=null", "resume=latest"), ["resume=latest"])
    assert resumed == folder.resolve()
    searched = [one for one in free_scores.scored if one[2] == 5]
    assert searched == [one for one in expected if one[2] == 5]
    for name in ("candidates.json", "arch.json"):
        assert (folder / name).read_text() == (whole / name).read_text()
    with pytest.raises(UserError, match="is finished; use its arch or start a new search"):
        start_or_resume(configure("resume=latest"), ["resume=latest"])


@pytest.fixture
def stopped(configure: Configure, free_scores: FreeScores, tmp_path: Path) -> Path:
    """The folder of a search that was stopped after 5 evaluations."""
    free_scores.stop_at = 5
    with pytest.raises(UserError, match="stopped after 5"):
        start_or_resume(configure("constraint.macs=20M"))
    return tmp_path / "evolve" / "run"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("constraint.macs=30M", r"constraint\.macs is 30M but the search in .* began with 20M, which it keeps"),
        ("population=9", "population is 9 but the search in .* began with 4"),
        ("dataset=synthetic", "dataset is {.* but the search in .* began with None"),
        ("objectives=[ap,macs]", r"objectives is \['ap', 'macs'\] but the search in .* began with \['ap'\]"),
    ],
)
def test_other_options_for_a_search_that_goes_on_are_refused_with_both_values(
    configure: Configure, stopped: Path, override: str, sentence: str
) -> None:
    overrides = ["resume=latest", override]
    with pytest.raises(UserError, match=sentence):
        start_or_resume(configure(*overrides), overrides)


def test_other_weights_or_another_space_are_refused_with_both_digests(
    configure: Configure, stopped: Path, supernet_folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    state = SuperNet(SPACE, COCO.num).state_dict()
    other = tmp_path / SUPERNET_FILE
    save_supernet(other, SPACE, state, COCO, DATASET, asdict(InferenceSettings()), PoseObjective(17))
    before, now = (file_digest(path)[:16] for path in (supernet_folder / SUPERNET_FILE, other))
    overrides = ["resume=latest", f"supernet={other}"]
    with pytest.raises(UserError, match=f"with the supernet weights {before} but now it is {now}"):
        start_or_resume(configure(*overrides), overrides)
    kept = read(stopped / "state.json")
    del kept["checksum"]
    kept["identity"]["the space"] = "nano (0123)"
    (stopped / "state.json").write_text(json.dumps(kept))
    with pytest.raises(UserError, match=rf"with the space nano \(0123\) but now it is tiny \({SPACE.digest()}\)"):
        start_or_resume(configure("resume=latest"), ["resume=latest"])


def test_a_moved_supernet_of_the_same_weights_is_gone_on_with(
    configure: Configure, stopped: Path, supernet_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(supernet_folder / SUPERNET_FILE, tmp_path / "moved.pt")
    overrides = ["resume=latest", f"supernet={tmp_path / 'moved.pt'}", "threads=1"]
    assert start_or_resume(configure(*overrides), overrides) == stopped.resolve()


def test_a_cut_line_costs_its_score_and_a_damaged_one_is_told(
    configure: Configure, stopped: Path, free_scores: FreeScores
) -> None:
    scores = stopped / "scores.jsonl"
    content = scores.read_text()
    damaged = content.replace("\n", "\ngarbage\n", 1)
    scores.write_text(damaged)
    with pytest.raises(UserError, match=r"search scores .*scores\.jsonl, line 2 is damaged"):
        start_or_resume(configure("resume=latest"), ["resume=latest"])
    assert scores.read_text() == damaged
    scores.write_text(content[:-20])
    with pytest.warns(UserWarning, match="the last line is cut off"):
        start_or_resume(configure("resume=latest", "cache=null"), ["resume=latest", "cache=null"])
    assert len([one for one in free_scores.scored if one[2] == 5]) == 13
    assert len(read(stopped / "candidates.json")) == 12


def test_a_changed_digit_in_what_a_search_kept_is_told(configure: Configure, stopped: Path) -> None:
    for name, sentence in (
        ("state.json", "state.json is damaged: its checksum differs"),
        ("scores.jsonl", "line 5 is"),
    ):
        content = (stopped / name).read_text()
        place = content.rindex('"num_images": ') + len('"num_images": ')
        digit = str((int(content[place]) + 1) % 10)
        (stopped / name).write_text(content[:place] + digit + content[place + 1 :])
        with pytest.raises(UserError, match=sentence):
            start_or_resume(configure("resume=latest"), ["resume=latest"])
        (stopped / name).write_text(content)


def test_lines_that_are_missing_are_told(configure: Configure, stopped: Path) -> None:
    (stopped / "scores.jsonl").write_text("")
    sentence = r"scores\.jsonl and state\.json beside it do not belong together: there are 4 candidates of 8 that were"
    with pytest.raises(UserError, match=sentence):
        start_or_resume(configure("resume=latest"), ["resume=latest"])


def test_what_a_killed_search_left_half_written_is_removed_when_it_goes_on(configure: Configure, stopped: Path) -> None:
    stray = [stopped / ".state.tmp99999999.json", stopped.parent / ".latest.tmp99999999"]
    stray[0].write_text("{")
    stray[1].symlink_to("run")
    start_or_resume(configure("resume=latest"), ["resume=latest"])
    assert not any(path.is_symlink() or path.exists() for path in stray)


@pytest.mark.parametrize("name", ["nothing", "latest"])
def test_nothing_to_go_on_with_is_told(configure: Configure, name: str) -> None:
    with pytest.raises(UserError, match=r"there is no state\.json in .*; name the folder of a stopped search"):
        start_or_resume(configure(f"resume={name}"), [f"resume={name}"])


def test_an_impossible_budget_ends_before_any_picture_is_loaded(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a data set was built")

    monkeypatch.setattr(problem, "pictures_for", refuse)
    with pytest.raises(UserError, match=r"constraint\.macs=1K is below the smallest subnet of space tiny"):
        start_or_resume(configure("constraint.macs=1K"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("+populatoin=10", r"there is no option populatoin; did you mean population\?"),
        ("+constraint.mac=1G", r"no cost constraint\.mac; did you mean constraint\.macs\?"),
        ("constraint.params=-5", "constraint.params is -5; give a"),
        ("population=0", "population is 0; it must be at least 1"),
        ("generations=0", "generations is 0; it must be at least 1"),
        ("population=many", "population is 'many'; it must be a whole number"),
        ("mutation_rate=2", r"mutation_rate is 2\.0; it must be from 0 to 1"),
        ("num_images=0", "num_images is 0; give a number from 1"),
        ("num_images=[9,5]", r"num_images is \[9, 5\]; give a number from 1"),
        ("num_images=[null,5]", r"num_images is \[None, 5\]; give a number from 1"),
        ("objectives=[macs]", r"objectives is \['macs'\]; give ap and names of costs"),
        ("objectives=[ap,mac]", "there is no objective mac; choose among ap, macs"),
        ("objectives=ap", "objectives is 'ap'; it must be a list"),
        ("keep_share=0", r"keep_share is 0\.0; it must be above 0"),
        ("top_k=0", "top_k is 0; it must be at least 1"),
        ("baseline=-1", "baseline is -1; it must be at least 0"),
        ("supernet=nowhere", "there is no trained supernet at nowhere"),
        ("device=tpu", "device 'tpu' is not available here"),
    ],
)
def test_a_wrong_option_is_told_and_leaves_nothing(
    configure: Configure, tmp_path: Path, override: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        start_or_resume(configure(override))
    assert list(tmp_path.iterdir()) == []


def test_a_predictor_that_would_never_propose_is_refused(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prediction\.first is 24 but 12 subnets are scored in all"):
        start_or_resume(configure("predictor=true"))
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_with_other_keypoints_is_refused(configure: Configure) -> None:
    with pytest.raises(UserError, match=r"dataset\.keypoints is 'crowdpose' but the supernet .* on 'coco'"):
        start_or_resume(configure("dataset=synthetic", "dataset.keypoints=crowdpose"))


def test_the_default_configuration_is_complete_and_evaluates_about_sixty() -> None:
    with initialize_config_module("conf", version_base="1.3"):
        plain = OmegaConf.to_container(compose("evolve"), resolve=True)
    settings = from_mapping(EvolveSettings, plain, "")
    assert 50 <= settings.population * settings.generations <= 70
    assert settings.supernet == "runs/train/latest"
    assert settings.dataset is None


def test_the_command_tells_an_impossible_budget_in_one_line_and_exits_2(supernet_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search.evolve", f"supernet={supernet_folder}", "constraint.macs=1K"]
    ended = subprocess.run(
        [*command, f"runs={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("error: constraint.macs=1K is below the smallest subnet of space tiny (")


def test_the_entry_point_starts_without_torch() -> None:
    code = "import search.evolve, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=True)


def test_presets_and_bounds_mix_on_the_command_line() -> None:
    def constraint(*overrides: str) -> dict[str, Any]:
        with initialize_config_module("conf", version_base="1.3"):
            found = OmegaConf.to_container(compose("evolve", list(overrides)).constraint, resolve=True)
        assert isinstance(found, dict)
        return {str(name): value for name, value in found.items() if value is not None}

    assert constraint() == {}
    assert constraint("constraint=xs") == {"macs_paper": "1.21G"}
    assert constraint("constraint=s", "constraint.latency=30ms") == {"macs_paper": "5G", "latency": "30ms"}
    assert constraint("constraint.macs=40%", "constraint.min_params=1M") == {"macs": "40%", "min_params": "1M"}


def command(supernet_folder: Path, runs: Path, *options: str) -> list[str]:
    small = ["population=4", "generations=3", "baseline=2", "num_images=[3,5]", "top_k=2", "batch_size=4"]
    small += ["num_calibration_images=4", "device=cpu", "threads=1", f"supernet={supernet_folder}", f"runs={runs}"]
    return ["-m", "search.evolve", *small, *options]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(supernet_folder: Path, tmp_path: Path) -> None:
    whole = [sys.executable, *command(supernet_folder, tmp_path / "whole")]
    subprocess.run(whole, cwd=ROOT, timeout=250, check=True, capture_output=True)
    killed = [sys.executable, *command(supernet_folder, tmp_path / "killed", "cache=null")]
    process = subprocess.Popen(killed, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    scores = tmp_path / "killed" / "evolve" / "latest" / "scores.jsonl"
    deadline = time.monotonic() + 200
    while not scores.exists() or len(scores.read_text().splitlines()) < 6:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    resume = [sys.executable, "-m", "search.evolve", "resume=latest", f"runs={tmp_path / 'killed'}"]
    subprocess.run(resume, cwd=ROOT, timeout=250, check=True, capture_output=True)
    for name in ("candidates.json", "arch.json", "scores.jsonl"):
        contents = {(tmp_path / run / "evolve" / "latest" / name).read_text() for run in ("whole", "killed")}
        assert len(contents) == 1, name


@pytest.mark.slow
def test_two_processes_find_what_one_finds(supernet_folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    alone = [sys.executable, *command(supernet_folder, tmp_path / "one")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two = [*launcher, *command(supernet_folder, tmp_path / "two")]
    for started in (alone, two):
        subprocess.run(started, cwd=ROOT, env=environment, timeout=250, check=True, capture_output=True)
    one, other = (tmp_path / run / "evolve" / "latest" for run in ("one", "two"))
    for name in ("candidates.json", "arch.json", "scores.jsonl"):
        assert (one / name).read_text() == (other / name).read_text(), name
    ends = [read(run / "summary.json") for run in (one, other)]
    for name in ("chosen", "finalists", "baseline", "num_scores"):
        assert ends[0][name] == ends[1][name]
    assert len(list((tmp_path / "two" / "evolve").iterdir())) == 2
