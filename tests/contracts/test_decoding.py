"""Keypoints are decoded as the network was trained, wherever its weights go, without anybody naming it."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.runs.evolution_run import EvolveSettings
from search.runs.problem import prepare
from subnet_export import finetune
from subnet_export.exporting.subnet import extract_model
from subnet_export.model import load_model, save_model
from supernet import evaluate
from supernet.checkpoints.supernet_file import SUPERNET_FILE, load_supernet, save_supernet
from supernet.compute.distributed import SINGLE_PROCESS
from supernet.io.schema import from_mapping
from supernet.pose import grouping
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.datasets import build
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import CROWDPOSE
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training.settings import TrainSettings
from tests.helpers.searches import SMALL, plain_config
from tests.helpers.spaces import SHALLOW
from tests.helpers.supernets import lively_supernet

RELEASE = Path(__file__).parents[1] / "golden" / "release"
SPLITS = {split: {"num_images": 2, "seed": seed} for seed, split in enumerate(("train", "val", "test"))}
DATASET: dict[str, Any] = {"kind": "synthetic", "keypoints": "crowdpose", "width": 64, "height": 64, **SPLITS}


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each way of decoding was used."""
    used: Counter[str] = Counter()

    def count(name: str, decoding: str) -> None:
        original = getattr(grouping, name)

        def counted(*arguments: Any) -> Any:
            used[decoding] += 1
            return original(*arguments)

        monkeypatch.setattr(grouping, name, counted)

    count("quarter_pixels", "published")
    count("fitted_tops", "unbiased")
    return used


def run(monkeypatch: pytest.MonkeyPatch, main: Any, *arguments: object) -> None:
    """Call an entry point as from a command line."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    main()


@pytest.mark.parametrize("targets", ["published", "unbiased"])
def test_a_training_run_decodes_as_its_targets_say_unless_overridden(targets: str) -> None:
    settings = from_mapping(TrainSettings, plain_config("train", (f"targets={targets}",)), "")
    assert (settings.targets, settings.evaluation.decoding) == (targets, targets)
    overrides = (f"targets={targets}", "evaluation.decoding=published")
    assert from_mapping(TrainSettings, plain_config("train", overrides), "").evaluation.decoding == "published"


@pytest.mark.parametrize("decoding", ["published", "unbiased"])
def test_evaluation_search_export_prediction_and_fine_tuning_follow_the_supernet(
    decoding: Any, decodings: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supernet = lively_supernet(SearchSpace.from_dict(SHALLOW), CROWDPOSE.num)
    objective = PoseObjective(CROWDPOSE.num, placement=decoding)
    evaluation = {"detection_threshold": 0.05, "decoding": decoding}
    path = tmp_path / SUPERNET_FILE
    save_supernet(path, supernet.space, supernet.state_dict(), CROWDPOSE, DATASET, evaluation, objective)
    arch = supernet.space.smallest()

    def used() -> set[str]:
        names = set(decodings)
        decodings.clear()
        return names

    common = (f"runs={tmp_path}", "threads=1", "device=cpu", "num_calibration_images=2")
    run(monkeypatch, evaluate.main, f"weights={path}", "arch=smallest", *common)
    assert used() == {decoding}

    search = plain_config("evolve", (f"supernet={path}", f"runs={tmp_path}", *SMALL))
    prepare(from_mapping(EvolveSettings, search, ""), SINGLE_PROCESS).validation([arch])
    assert used() == {decoding}

    trained = load_supernet(path)
    assert trained.objective == objective
    images: PoseDataset = build(DATASET, "test")
    save_model(tmp_path / "model", extract_model(trained, arch, images, num_calibration_images=2))
    assert used() == {decoding}
    run(monkeypatch, evaluate.main, f"weights={tmp_path / 'model'}", *common[:3])
    assert used() == {decoding}

    tuning = ("--steps", 1, "--batch-size", 2, "--device", "cpu", "--threads", 1)
    run(monkeypatch, finetune.main, "--model", tmp_path / "model", "--output", tmp_path / "tuned", *tuning)
    assert used() == {decoding}
    tuned = load_model(tmp_path / "tuned")
    assert tuned.objective == objective
    tuned.predict(images[0].image)
    assert used() == {decoding}


def test_files_of_releases_that_knew_one_way_are_decoded_that_way(decodings: Counter[str]) -> None:
    for version in (1, 2):
        trained = load_supernet(RELEASE / f"supernet_format_{version}.pt")
        assert "decoding" not in trained.evaluation
        assert from_mapping(InferenceSettings, trained.evaluation, "evaluation").decoding == "published"
        assert trained.objective.placement == "published"
    model = load_model(RELEASE / "model")
    assert model.objective.placement == "published"
    model.predict(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    assert set(decodings) <= {"published"}
    assert model.settings.decoding == "published"
