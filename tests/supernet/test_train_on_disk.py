"""A few training steps on data sets on disk: real samples, images in archives, sets with broken images."""

import copy
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from supernet.checkpoints.supernet_file import load_supernet
from supernet.errors import UserError
from supernet.pose.datasets import build
from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.training.launch import start_or_resume
from tests.helpers.coco_files import write_custom_set
from tests.helpers.spaces import TINY
from tests.supernet.test_train import configuration, state_of

PHASE = {"name": "all", "share": 1, "elastic": ["resolution"], "subnets": ["largest"], "learning_rate": 1e-3}


def dataset_of(*overrides: str) -> dict[str, Any]:
    with initialize_config_module("conf", version_base="1.3"):
        config = OmegaConf.to_container(compose("train", list(overrides)).dataset, resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def short_run(runs: Path, dataset: dict[str, Any], **changes: Any) -> Path:
    start_or_resume(configuration(runs, dataset=dataset, steps=4, phases=[PHASE], report_random=0, **changes), [])
    return runs / "train" / "run"


@pytest.mark.data
def test_coco_is_trained_on(data_folder: Path, tmp_path: Path) -> None:
    splits = [f"dataset.{split}.{key}" for split in ("val", "test") for key in ("annotations", "images")]
    values = ["annotations/person_keypoints_train2017.json", "train2017"] * 2
    overrides = [f"{key}={value}" for key, value in zip(splits, values, strict=True)]
    overrides += ["dataset.val.only_with_people=true", "dataset.test.only_with_people=true"]
    folder = short_run(tmp_path, dataset_of("dataset=coco", f"dataset.root={data_folder / 'coco_mini'}", *overrides))
    assert load_supernet(folder).keypoints is COCO
    assert json.loads((folder / "summary.json").read_text())["num_test_images"] == 28


@pytest.mark.data
def test_crowdpose_is_trained_on_and_scored_by_crowding(data_folder: Path, tmp_path: Path) -> None:
    overrides = [f"dataset.{split}.annotations=annotations/crowdpose_val.json" for split in ("train", "val", "test")]
    root = data_folder / "crowdpose_sample"
    folder = short_run(tmp_path, dataset_of("dataset=crowdpose", f"dataset.root={root}", *overrides))
    assert load_supernet(folder).keypoints is CROWDPOSE
    metrics = json.loads((folder / "summary.json").read_text())["subnets"][0]["metrics"]
    assert {"AP_easy", "AP_medium", "AP_hard"} <= metrics.keys()


def test_images_in_an_archive_train_to_the_same_bits(tmp_path: Path) -> None:
    dataset = write_custom_set(tmp_path / "set")
    with zipfile.ZipFile(tmp_path / "set" / "all.zip", "w") as archive:
        for split in ("train", "val"):
            for path in (tmp_path / "set" / split).iterdir():
                archive.write(path, f"{split}/{path.name}")
    zipped = {**dataset}
    for split, folder in (("train", "train"), ("val", "val"), ("test", "val")):
        zipped[split] = {**dataset[split], "images": f"all.zip@{folder}"}
    states = [
        state_of(short_run(tmp_path / name, config, num_workers=2) / "supernet.pt")
        for name, config in (("folder", dataset), ("archive", zipped))
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_logs_skipped_images_and_lists_them_in_the_summary(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = write_custom_set(tmp_path / "set")
    broken = sorted((tmp_path / "set" / "train").iterdir())[3]
    broken.write_bytes(b"no image")
    folder = short_run(tmp_path / "runs", dataset | {"max_bad_share": 0.2})
    logged = re.compile(rf"{broken.name} cannot be decoded .*another image takes its place")
    assert len([message for message in caplog.messages if logged.search(message)]) == 1
    (error,) = json.loads((folder / "summary.json").read_text())["skipped_images"]
    assert str(broken) in error
    with pytest.raises(UserError, match=r"1 of the 8 training images cannot be used"):
        short_run(tmp_path / "strict", dataset)
    with pytest.raises(UserError, match=rf"^image .*{broken.name} cannot be decoded"):
        short_run(tmp_path / "fail", dataset | {"on_bad_image": "fail"})


def test_the_weights_of_a_keypoint_without_labels_are_not_blamed_on_the_space(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = write_custom_set(tmp_path / "set", 4)
    file = tmp_path / "set" / "annotations" / "train.json"
    content = json.loads(file.read_text())
    for person in content["annotations"]:
        person["keypoints"][:3] = [0, 0, 0]
        del person["num_keypoints"]
    file.write_text(json.dumps(content))
    space = copy.deepcopy(TINY)
    for stage in space["stages"]:
        stage["kernel_sizes"] = stage["kernel_sizes"][-1:]
    short_run(tmp_path / "runs", dataset, space=space)
    assert any("keypoint Snout" in message for message in caplog.messages)
    (message,) = [message for message in caplog.messages if "never trained" in message]
    assert "labelled on no training image: Snout" in message


def test_a_name_and_weights_are_checked_before_the_images(tmp_path: Path) -> None:
    dataset = write_custom_set(tmp_path / "set") | {"root": str(tmp_path / "nowhere")}
    with pytest.raises(UserError, match=r"init=missing\.pt does not exist"):
        short_run(tmp_path, dataset, init="missing.pt")
    (tmp_path / "train" / "run").mkdir(parents=True)
    with pytest.raises(UserError, match=r"run exists already"):
        short_run(tmp_path, dataset)


def test_what_a_split_lacks_is_named_by_its_option(tmp_path: Path) -> None:
    dataset = write_custom_set(tmp_path / "set")
    for key in ("annotations", "images"):
        lacking = dataset | {"val": {**dataset["val"], key: "absent"}}
        with pytest.raises(UserError, match=rf"absent.*dataset\.val\.{key}"):
            build(lacking, "val")
