"""The training loop and its entry point, on a tiny space."""

import copy
import json
import os
import shutil
import signal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from supernet.checkpoints import container
from supernet.checkpoints.supernet_file import load_supernet
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.io.schema import from_mapping
from supernet.pose.data.image_decoding import read_image
from supernet.pose.evaluation import Evaluation
from supernet.pose.inference import InferenceSettings, PoseEstimator
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.space import SearchSpace
from supernet.training import run_folder
from supernet.training.launch import start_or_resume
from supernet.training.phases import Phase, schedule
from supernet.training.settings import TrainSettings
from supernet.training.trainer import Trainer
from supernet.weight_sharing import SuperNet
from tests.helpers.spaces import TINY

ON_16_PX = {
    "name": "tiny",
    "share": 1,
    "elastic": [],
    "subnets": ["largest"],
    "learning_rate": 1e-2,
    "resolution_scale": 0.2,
}


@cache
def composed() -> dict[str, Any]:
    """The configuration that Hydra composes; cached because that takes long."""
    with initialize_config_module("conf", version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides=["phases=progressive"]), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def configuration(runs: Path, **changes: Any) -> dict[str, Any]:
    """Return the plain configuration of a short run on the tiny space."""
    plain = copy.deepcopy(composed())
    plain |= {"space": TINY, "steps": 26, "batch_size": 4, "num_workers": 0, "num_calibration_images": 4}
    plain |= {"report_random": 1, "log_every": 2, "checkpoint_every": 5, "runs": str(runs), "name": "run"}
    plain["phases"] = [phase | {"share": 1} for phase in plain["phases"]]
    for split in ("train", "val", "test"):
        plain["dataset"][split]["num_images"] = 16 if split == "train" else 6
    plain["dataset"] |= {"width": 96, "height": 96}
    return plain | changes


def state_of(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = container.load(path, "supernet")["state"]
    return state


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run; tests do not change it."""
    runs = tmp_path_factory.mktemp("whole")
    start_or_resume(configuration(runs), [])
    return runs / "train" / "run"


@pytest.mark.drawings
def test_a_run_leaves_supernet_summary_and_curves(tmp_path: Path) -> None:
    start_or_resume(configuration(tmp_path), [])
    folder = tmp_path / "train" / "latest"
    summary = json.loads((folder / "summary.json").read_text())
    assert [row["subnet"] for row in summary["subnets"]] == ["largest", "smallest", "random 0"]
    assert all(0 <= row["metrics"]["AP"] <= 1 for row in summary["subnets"])
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert {line["phase"] for line in lines} >= {"small", "largest", "width"}
    assert lines[-1]["step"] == 25
    assert lines[-1].keys() >= {"loss_largest", "loss_random", "loss_smallest", "loss_gap"}
    assert json.loads((folder / "config.json").read_text())["steps"] == 26
    assert read_image(folder / "curves.png").shape[2] == 3
    assert "Plotly.newPlot" in (folder / "curves.html").read_text()
    health = summary["health"]
    assert (health["rollbacks"], health["alarms"]) == ([], [])
    # One subnet a step in the first phases, three in the last.
    counts = [sum(tables["stem_width"].values()) for tables in health["coverage"].values()]
    assert sum(counts[:4]) + sum(counts[4:]) / 3 == 26
    assert any(folder.glob("events.out.tfevents.*"))
    trained = load_supernet(folder)
    assert trained.supernet.space == SearchSpace.from_dict(TINY)
    assert trained.keypoints == COCO
    value = container.load(folder / "checkpoint.pt", "training")
    environment = {"code", "python", "torch", "numpy", "opencv", "processor", "device", "threads", "processes"}
    assert value["made_with"].keys() == environment | {"space_digest", "keypoints", "train_images"}
    average = value["trainer"]["average"]
    assert average
    assert all(torch.equal(trained.supernet.state_dict()[name], value) for name, value in average.items())


def test_the_log_holds_the_ap_of_every_validation_also_that_after_the_last_step(tmp_path: Path) -> None:
    start_or_resume(configuration(tmp_path, steps=12, evaluate_every=4, log_every=3, num_evaluate_images=2), [])
    lines = [json.loads(line) for line in (tmp_path / "train" / "run" / "train.jsonl").read_text().splitlines()]
    # Validations after 4, 8 and 12 steps; lines of the steps 0, 3, 6, 9 and 11, counted from 0.
    assert [line["step"] for line in lines] == [0, 3, 6, 9, 11]
    assert [line["step"] for line in lines if "AP_largest" in line] == [3, 9, 11]


def test_plots_are_drawn_and_change_nothing(whole: Path, tmp_path: Path) -> None:
    config = configuration(tmp_path, plots=True)
    config["phases"][1]["name"] = "largest / 2"
    start_or_resume(config, [])
    drawn = tmp_path / "train" / "latest"
    batches = [f"batch_{i}_{phase['name'].replace(' / ', '_')}" for i, phase in enumerate(config["phases"])]
    assert "batch_1_largest_2" in batches
    tests = ["test_largest", "test_random_0", "test_smallest"]
    assert sorted(path.stem for path in (drawn / "plots").iterdir()) == [*batches, *tests]
    for path in (drawn / "plots").iterdir():
        # Four samples of a batch a row each, or six test images, two beside each other.
        assert read_image(path).shape[0] > (4 * 256 if path.stem.startswith("batch") else 3 * 400)
    assert not (whole / "plots").exists()
    states = [state_of(folder / "supernet.pt") for folder in (whole, drawn)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_report_is_calibrated_on_training_and_scored_on_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[tuple[int, int]] = []

    def remember(_: SuperNet, calibration_set: Any, evaluation_set: Any, *__: Any, **___: Any) -> SubnetScorer:
        seeds.append((calibration_set._dataset.seed, evaluation_set._dataset.seed))
        raise UserError("scorer built")

    monkeypatch.setattr("supernet.training.run.SubnetScorer", remember)
    config = configuration(tmp_path)
    with pytest.raises(UserError, match="scorer built"):
        start_or_resume(config, [])
    assert seeds == [(config["dataset"]["train"]["seed"], config["dataset"]["test"]["seed"])]


@pytest.mark.parametrize(("stop", "number"), [(3, signal.SIGINT), ("sorting", signal.SIGTERM), (20, signal.SIGINT)])
def test_an_interrupted_run_continues_to_the_same_bits(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int | str, number: int
) -> None:
    config = configuration(tmp_path)
    scheduled = schedule(from_mapping(TrainSettings, config, "").phases, SearchSpace.from_dict(TINY), 26)
    if stop == "sorting":  # before the first step of the phase that begins with sorted channels
        stop = next(phase.start for phase in scheduled if "width" in phase.phase.elastic)
    assert isinstance(stop, int)
    original = Trainer.train_step

    def interrupted(self: Trainer, *arguments: Any) -> Any:
        if self.step == stop - 1:
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        with pytest.raises(UserError, match=f"stopped after {stop} steps.*resume="):
            start_or_resume(config, [])
    torch.manual_seed(99)
    start_or_resume(config | {"resume": "latest"}, ["resume=latest", f"runs={tmp_path}"])
    folders = (whole, tmp_path / "train" / "latest")
    expected, resumed = (state_of(folder / "supernet.pt") for folder in folders)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    logs = [[json.loads(line)["total"] for line in (folder / "train.jsonl").open()] for folder in folders]
    assert logs[0] == logs[1]


def test_a_checkpoint_with_option_names_of_an_earlier_release_resumes(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "train" / "run"
    shutil.copytree(whole, folder)
    (folder / "summary.json").unlink()
    value = container.load(folder / "checkpoint.previous.pt", "training")
    config = value["config"]
    old_config = {"picture_memory_mib" if name == "image_memory_mib" else name: config[name] for name in config}
    assert old_config != config
    run_folder.write_config(folder, old_config)
    (folder / "checkpoint.previous.pt").unlink()
    container.save(folder / "checkpoint.pt", "training", {**value, "config": old_config})
    start_or_resume({**config, "runs": str(tmp_path), "resume": str(folder)}, [f"resume={folder}"])
    expected, resumed = (state_of(path / "supernet.pt") for path in (whole, folder))
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert (folder / "summary.json").exists()


def test_resuming_refuses_other_options_and_missing_runs(tmp_path: Path) -> None:
    config = configuration(tmp_path) | {"resume": "latest"}
    with pytest.raises(UserError, match="no checkpoint"):
        start_or_resume(config, ["resume=latest"])
    with pytest.raises(UserError, match="steps=99 cannot be changed"):
        start_or_resume(config, ["resume=latest", "steps=99"])


def test_a_checkpoint_that_holds_something_else_is_refused_by_name(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    run_folder.write_config(tmp_path, config)
    environment = {"space_digest": SearchSpace.from_dict(TINY).digest()}
    complete = {"config": config, "trainer": {"step": 1}, "watch": {}, "made_with": environment, "seconds": 1.0}
    for missing in ("trainer", "watch", "made_with", "seconds"):
        run_folder.save_checkpoint(tmp_path, {key: value for key, value in complete.items() if key != missing})
        with pytest.raises(UserError, match=rf"checkpoint\.pt is .*: (its )?{missing} is missing"):
            start_or_resume(config | {"resume": str(tmp_path)}, [])
    run_folder.save_checkpoint(tmp_path, complete)
    with pytest.raises(UserError, match=r"checkpoint\.pt is not of this run \(KeyError\('network'\)\)"):
        start_or_resume(config | {"resume": str(tmp_path)}, [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepz": 3}, "did you mean steps"),
        ({"steps": 0}, "steps must be .*, got 0"),
        ({"batch_size": 2.5}, "batch_size must be .*, got 2.5"),
        ({"device": "abacus"}, "abacus"),
        ({"phases": []}, "no phases"),
        ({"evaluation": {"scales": [0.25, 1]}}, "scale 0.25 of resolution 96 is 24 px"),
        ({"steps": 2}, "no step"),
        ({"phases": [ON_16_PX], "batch_size": 1}, "a single image of 16 px"),
        ({"phases": [ON_16_PX], "batch_size": 3, "accumulate": 3}, "lower accumulate"),
    ],
)
def test_wrong_options_are_refused_before_training(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        start_or_resume(configuration(tmp_path, **changes), [])
    assert not list(tmp_path.iterdir())


def test_every_phase_list_and_experiment_in_conf_composes_and_schedules() -> None:
    names = sorted(path.stem for path in Path("conf/experiment").glob("*.yaml"))
    assert names
    for override in ["phases=progressive", "phases=sandwich", *(f"experiment={name}" for name in names)]:
        with initialize_config_module("conf", version_base="1.3"):
            config = OmegaConf.to_container(compose("train", overrides=[override]), resolve=True)
        assert isinstance(config, dict)
        phases = [
            Phase(**{**p, "elastic": tuple(p["elastic"]), "subnets": tuple(p["subnets"])}) for p in config["phases"]
        ]
        space = SearchSpace.from_dict(config["space"])
        assert schedule(phases, space, config["steps"])[-1].stop == config["steps"]


def test_a_score_is_that_of_a_calibrated_subnet(monkeypatch: pytest.MonkeyPatch) -> None:
    space = SearchSpace.from_dict(TINY)
    torch.manual_seed(0)
    supernet = SuperNet(space, COCO.num).eval()
    images = SyntheticPeople(COCO, 6, 1, 96, 96)
    scorer = SubnetScorer(supernet, images, images, InferenceSettings(), num_calibration_images=6)
    network = scorer.subnet(space.smallest())
    fresh = supernet.extract(space.smallest())
    mean, untouched = (net.get_buffer("first.0.1.running_mean") for net in (network, fresh))
    assert untouched.abs().sum() == 0
    assert mean.abs().sum() > 0
    assert not network.training

    evaluated: list[torch.nn.Module] = []

    def remember(estimator: PoseEstimator, *_: Any, **__: Any) -> Evaluation:
        assert isinstance(estimator.network, torch.nn.Module)
        evaluated.append(estimator.network)
        return Evaluation({"AP": 0.5}, [], [], "", 0.0)

    monkeypatch.setattr("supernet.evaluation.subnet_scorer.evaluate", remember)
    assert scorer(space.smallest()).metrics == {"AP": 0.5}
    pixels = torch.randn(1, 3, 96, 96)
    with torch.no_grad():  # what was scored has its batch norms folded, and computes the same
        outputs = zip(evaluated[0](pixels), network(pixels), fresh(pixels), strict=True)
        for actual, calibrated, uncalibrated in outputs:
            torch.testing.assert_close(actual, calibrated, rtol=1e-3, atol=1e-4)
            assert not torch.allclose(actual, uncalibrated, rtol=1e-3, atol=1e-4)


def test_spaces_in_conf_are_what_their_files_say() -> None:
    for path in Path("conf/space").glob("*.yaml"):
        assert SearchSpace.load(path.stem).to_dict() == yaml.safe_load(path.read_text())
