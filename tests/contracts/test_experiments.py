"""The experiments for the full space on real data sets: every phase runs at full size, on built-in people."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from supernet.io.schema import from_mapping
from supernet.space import SearchSpace
from supernet.training.launch import start_or_resume
from supernet.training.phases import schedule
from supernet.training.settings import TrainSettings

RECIPES = {"crowdpose": 10_000, "coco": 57_000}
"""Experiments, and the number of training images that their steps are computed for."""


def configuration(name: str, *overrides: str) -> dict[str, Any]:
    """The plain configuration of ``experiment=name``, with overrides of the command line."""
    with initialize_config_module("conf", version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides=[f"experiment={name}", *overrides]), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_for_its_data_set_and_the_full_space(name: str) -> None:
    config = configuration(name)
    settings = from_mapping(TrainSettings, config, "")
    assert config["space"] == SearchSpace.load("litepose").to_dict()
    assert (config["dataset"]["kind"], config["dataset"]["keypoints"]) == ("coco", name)
    assert settings.phases[-1].elastic == ("resolution", "kernel_size", "depth", "expand_ratio", "width")
    epochs = sum(phase.share for phase in settings.phases)  # shares are epochs
    assert settings.steps == round(epochs * RECIPES[name] / settings.batch_size)
    for scheduled in schedule(settings.phases, SearchSpace.load("litepose"), settings.steps):
        steps = scheduled.phase.share * RECIPES[name] / settings.batch_size
        assert scheduled.stop - scheduled.start == pytest.approx(steps, abs=1)


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_of_one_gpu_takes_the_steps_of_eight_in_parts(name: str) -> None:
    on_eight, on_one = configuration(name), configuration(f"{name}_1gpu")
    assert on_one.pop("accumulate") == 8
    assert on_eight.pop("accumulate") == 1
    assert on_one.pop("steps") == round(on_eight.pop("steps") / 4)
    assert on_one.pop("num_workers") >= on_eight.pop("num_workers")
    assert on_one == on_eight


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_phase_of_a_recipe_runs_at_full_size(name: str, tmp_path: Path) -> None:
    """With its own space, phases and settings, at the largest resolution, with two images and one step per phase."""
    config = configuration(name, "dataset=synthetic", f"dataset.keypoints={name}")
    config["space"]["resolutions"] = config["space"]["resolutions"][-1:]
    config["phases"] = [phase | {"share": 1} for phase in config["phases"]]
    for split in ("train", "val", "test"):
        config["dataset"][split]["num_images"] = 2
    config["dataset"] |= {"width": 640, "height": 480}
    config |= {"steps": len(config["phases"]), "batch_size": 2, "num_calibration_images": 2, "report_random": 0}
    config |= {"log_every": 1, "num_workers": 0, "runs": str(tmp_path)}
    start_or_resume(config, [])
    folder = tmp_path / "train" / "latest"
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines] == [phase["name"] for phase in config["phases"]]
    assert {line["resolution"] for line in lines[1:]} == {512}
    assert (folder / "summary.json").exists()
