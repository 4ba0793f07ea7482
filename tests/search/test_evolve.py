"""A search run from a supernet file to arch.json, with the built-in people and with scores that cost nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from search import evolve_run
from search.cost import COSTS
from search.evolve_run import EvolveSettings, run
from supernet.arch import Arch
from supernet.checkpoint import SUPERNET_FILE, save_supernet
from supernet.errors import UserError
from supernet.pose.evaluation import Evaluation
from supernet.pose.inference import InferenceSettings
from supernet.pose.kept import KeptPictures
from supernet.pose.keypoints import COCO
from supernet.pose.objective import PoseObjective
from supernet.pose.synthetic import SyntheticPeople
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
    small += ["num_images=5", "num_calibration_images=4", "batch_size=4", "device=cpu", "threads=1", "name=run"]

    def make(*overrides: str) -> dict[str, Any]:
        with initialize_config_module("conf", version_base="1.3"):
            config = OmegaConf.to_container(compose("evolve", [*small, *overrides]), resolve=True)
        assert isinstance(config, dict)
        return {str(key): value for key, value in config.items()}

    return make


class FreeScorer:
    """Takes the place of SubnetScorer: AP is known from the arch and from which pictures it is scored on."""

    scored: list[tuple[int, Arch]]

    def __init__(
        self, supernet: SuperNet, calibration_set: Any, evaluation_set: KeptPictures, *_: Any, **__: Any
    ) -> None:
        self.evaluation_set = evaluation_set
        people = evaluation_set._dataset
        assert isinstance(people, SyntheticPeople)
        self.seed = people.seed
        assert calibration_set.seed == 1

    @staticmethod
    def ap(seed: int, arch: Arch) -> float:
        return COSTS["params"](arch, 17) / 1e6 - seed / 100

    def __call__(self, arch: Arch) -> Evaluation:
        self.scored.append((self.seed, arch))
        return Evaluation({"AP": self.ap(self.seed, arch), "AP50": 0.5}, [], [], "", 0.0)


@pytest.fixture
def free_scorer(monkeypatch: pytest.MonkeyPatch) -> type[FreeScorer]:
    monkeypatch.setattr(FreeScorer, "scored", [], raising=False)
    monkeypatch.setattr(evolve_run, "SubnetScorer", FreeScorer)
    return FreeScorer


def limit(name: str, slack: float) -> int:
    return int(COSTS[name](SPACE.smallest(), 17) * slack)


@pytest.mark.filterwarnings("ignore:there are no detections")
def test_a_run_leaves_an_arch_all_candidates_a_picture_and_a_summary(configure: Configure, tmp_path: Path) -> None:
    macs = limit("macs", 2.5)
    folder = run(configure(f"constraint.macs={macs}"))
    assert folder == tmp_path / "evolve" / "run"
    assert (tmp_path / "evolve" / "latest").resolve() == folder.resolve()
    arch = Arch.load(folder / "arch.json")
    assert arch in SPACE
    assert COSTS["macs"](arch, 17) <= macs

    candidates = json.loads((folder / "candidates.json").read_text())
    archs = [Arch.from_dict(row["arch"]) for row in candidates]
    assert len(set(archs)) == 12
    for order, (row, one) in enumerate(zip(candidates, archs, strict=True)):
        assert row["order"] == order
        assert row["costs"] == {name: cost(one, 17) for name, cost in COSTS.items()}
        assert row["costs"]["macs"] <= macs
        assert 0 <= row["metrics"]["AP"] <= 1

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["num_evaluations"] == 12
    assert (summary["num_validation_images"], summary["num_test_images"]) == (5, 4)
    assert summary["constraint"] == {"macs": macs}
    assert summary["baseline"]["num"] == summary["baseline"]["num_uniform"] == len(summary["baseline"]["subnets"]) == 3
    assert all(subnet["costs"]["macs"] <= macs for subnet in summary["baseline"]["subnets"])
    assert set(summary["versions"]) == {"python", "torch", "numpy", "opencv"}
    assert cv2.imread(str(folder / "pareto.png")) is not None
    assert {path.name for path in folder.iterdir()} == {"arch.json", "candidates.json", "pareto.png", "summary.json"}


def test_the_choice_is_made_on_val_and_checked_on_test(configure: Configure, free_scorer: type[FreeScorer]) -> None:
    folder = run(configure(f"constraint.params={limit('params', 1.5)}"))
    searched = [arch for seed, arch in free_scorer.scored if seed == VAL_SEED]
    checked = [arch for seed, arch in free_scorer.scored if seed == TEST_SEED]
    assert [seed for seed, _ in free_scorer.scored] == [VAL_SEED] * 12 + [TEST_SEED] * 4
    chosen = Arch.load(folder / "arch.json")
    assert chosen == checked[0] == max(searched, key=lambda arch: COSTS["params"](arch, 17))

    meta = json.loads((folder / "arch.json").read_text())["meta"]
    assert meta["ap"] == {split: free_scorer.ap(seed, chosen) for split, seed in (("val", 2), ("test", 3))}
    assert meta["digest"] == chosen.digest()
    assert meta["space_digest"] == SPACE.digest()
    baseline = json.loads((folder / "summary.json").read_text())["baseline"]
    aps = [free_scorer.ap(TEST_SEED, arch) for arch in checked[1:]]
    mean = sum(aps) / 3
    assert baseline["ap_best"] == max(aps)
    assert baseline["ap_mean"] == pytest.approx(mean)
    assert baseline["ap_sd"] == pytest.approx((sum((ap - mean) ** 2 for ap in aps) / 2) ** 0.5)


@pytest.mark.usefixtures("free_scorer")
def test_equal_seeds_repeat_a_run(configure: Configure) -> None:
    def trace(name: str, seed: int) -> tuple[str, str]:
        folder = run(configure(f"name={name}", f"seed={seed}"))
        summary = json.loads((folder / "summary.json").read_text())
        return (folder / "candidates.json").read_text(), json.dumps(summary["baseline"])

    first, again, other = trace("a", 5), trace("b", 5), trace("c", 6)
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_without_a_baseline_only_the_chosen_one_is_checked(configure: Configure, free_scorer: type[FreeScorer]) -> None:
    folder = run(configure("baseline=0"))
    assert [seed for seed, _ in free_scorer.scored].count(TEST_SEED) == 1
    assert json.loads((folder / "summary.json").read_text())["baseline"]["ap_mean"] is None


@pytest.mark.usefixtures("free_scorer")
def test_a_data_set_without_test_pictures_of_its_own_is_told(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(configure("dataset=synthetic", f"dataset.test={{num_images: 300, seed: {VAL_SEED}}}"))
    assert json.loads((folder / "summary.json").read_text())["test_is_validation"] is True
    assert "same pictures for val and test" in capsys.readouterr().out


def test_stopping_keeps_the_figures_so_far(
    configure: Configure, free_scorer: type[FreeScorer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(self: FreeScorer, arch: Arch) -> Evaluation:
        if len(self.scored) == 2:
            raise KeyboardInterrupt
        self.scored.append((self.seed, arch))
        return Evaluation({"AP": 0.5}, [], [], "", 0.0)

    monkeypatch.setattr(free_scorer, "__call__", interrupted)
    with pytest.raises(UserError, match="stopped after 2 evaluations; their figures are in"):
        run(configure())
    assert len(json.loads((tmp_path / "evolve" / "run" / "candidates.json").read_text())) == 2


def test_an_impossible_budget_ends_before_any_picture_is_loaded(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a data set was built")

    monkeypatch.setattr(evolve_run, "pictures_for", refuse)
    with pytest.raises(UserError, match=r"constraint\.macs=1K is below the smallest subnet of space tiny"):
        run(configure("constraint.macs=1K"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("+populatoin=10", r"there is no option populatoin; did you mean population\?"),
        ("+constraint.mac=1G", r"no cost constraint\.mac; did you mean constraint\.macs\?"),
        ("constraint.params=-5", "constraint.params is -5; give a number from 1"),
        ("population=0", "population is 0; it must be at least 1"),
        ("population=many", "population is 'many'; it must be a whole number"),
        ("mutation_rate=2", r"mutation_rate is 2\.0; it must be from 0 to 1"),
        ("num_images=0", "num_images is 0; it must be at least 1"),
        ("baseline=-1", "baseline is -1; it must be at least 0"),
        ("supernet=nowhere", "there is no trained supernet at nowhere"),
        ("device=tpu", "device 'tpu' is not available here"),
    ],
)
def test_a_wrong_option_is_told_and_leaves_nothing(
    configure: Configure, tmp_path: Path, override: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(configure(override))
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_with_other_keypoints_is_refused(configure: Configure) -> None:
    with pytest.raises(UserError, match=r"dataset\.keypoints is 'crowdpose' but the supernet .* on 'coco'"):
        run(configure("dataset=synthetic", "dataset.keypoints=crowdpose"))


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
