"""Long runs check before their first step all that their report needs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supernet.errors import UserError
from supernet.evaluation.readiness import check_ready
from supernet.pose.data.subset import Subset
from supernet.pose.datasets import build
from supernet.pose.evaluation import evaluator_of, num_until_people
from supernet.training.launch import start_or_resume
from tests.helpers.coco_files import write_custom_set
from tests.supernet.test_train import configuration


def without_people(root: Path) -> str:
    file = root / "annotations" / "val.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    return "no labelled person"


def without_an_image(root: Path) -> str:
    path = sorted((root / "val").iterdir())[-1]
    path.unlink()
    return path.name


def with_half_an_image(root: Path) -> str:
    path = sorted((root / "val").iterdir())[-1]
    path.write_bytes(path.read_bytes()[:400])
    return path.name


FAULTS = [without_people, without_an_image, with_half_an_image]


@pytest.mark.parametrize("fault", FAULTS)
def test_training_sees_faults_of_its_report_before_its_folder_exists(
    fault: Callable[[Path], str], tmp_path: Path
) -> None:
    dataset = write_custom_set(tmp_path / "set", 4)
    name = fault(tmp_path / "set")
    with pytest.raises(UserError, match=f"test split.*{name}"):
        start_or_resume(configuration(tmp_path / "runs", dataset=dataset), [])
    assert not (tmp_path / "runs").exists()


def loaded(dataset: dict[str, Any], split: str = "val") -> Any:
    return build({**dataset, "on_bad_image": "fail"}, split)


def test_a_warning_names_the_split_that_has_training_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = write_custom_set(tmp_path, 6)
    check_ready({"val": loaded(dataset)}, loaded(dataset, "train"), 2)
    assert caplog.messages == []
    file = tmp_path / "annotations" / "some.json"
    content = json.loads((tmp_path / "annotations" / "train.json").read_text())
    file.write_text(json.dumps({**content, "images": content["images"][:2], "annotations": content["annotations"][:1]}))
    mixed = {**dataset, "val": {**dataset["val"], "annotations": "annotations/some.json", "images": "train"}}
    check_ready({"val": loaded(mixed), "test": loaded(mixed, "test")}, loaded(mixed, "train"), 2)
    (message,) = caplog.messages
    assert "2 of the 2 images of the val split" in message


def test_every_image_is_checked_and_the_broken_ones_are_named(tmp_path: Path) -> None:
    dataset = write_custom_set(tmp_path, 8)
    train, val = loaded(dataset, "train"), loaded(dataset)
    check_ready({"val": val, "test": val}, train, 4)
    paths = sorted((tmp_path / "val").iterdir())
    for path in paths[:7]:
        path.write_bytes(b"none")
    with pytest.raises(UserError) as caught:
        check_ready({"val": val}, train, 4)
    assert all(path.name in str(caught.value) for path in paths[:5])
    assert "2 more" in str(caught.value)


def test_broken_segmentations_matter_to_training_only(tmp_path: Path) -> None:
    dataset = write_custom_set(tmp_path, 4)
    for split in ("train", "val"):
        file = tmp_path / "annotations" / f"{split}.json"
        content = json.loads(file.read_text())
        crowd = {**content["annotations"][0], "id": 10**6, "iscrowd": 1, "segmentation": [[1, 2, 3]]}
        file.write_text(json.dumps({**content, "annotations": [*content["annotations"], crowd]}))
    check_ready({"val": loaded(dataset)}, Subset(loaded(dataset, "train"), [1, 2, 3]), 3)
    with pytest.raises(UserError, match="segmentation of annotation 1000000"):
        check_ready({"train": loaded(dataset, "train")}, loaded(dataset, "train"), 4)


def test_only_the_images_of_a_calibration_are_checked_in_the_training_split(tmp_path: Path) -> None:
    dataset = write_custom_set(tmp_path, 8)
    train, val = loaded(dataset, "train"), loaded(dataset)
    sorted((tmp_path / "train").iterdir())[1].write_bytes(b"none")
    check_ready({"val": val}, train, 2)  # the first and the last
    with pytest.raises(UserError, match="train split"):
        check_ready({"val": val}, train, 8)


def test_measurements_on_few_images_take_as_many_as_show_a_person(tmp_path: Path) -> None:
    dataset = write_custom_set(tmp_path, 6)
    val = loaded(dataset)
    file = tmp_path / "annotations" / "val.json"
    content = json.loads(file.read_text())
    first = {image["id"] for image in content["images"][:3]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] not in first]
    file.write_text(json.dumps(content))
    late = loaded(dataset)
    assert [num_until_people(val, number) for number in (1, 2, 6)] == [1, 2, 6]
    assert [num_until_people(late, number) for number in (1, 4, 5, 9)] == [4, 4, 5, 6]
    evaluator_of(late, 4)
    with pytest.raises(UserError, match="no labelled person"):
        evaluator_of(late, 3)
    with pytest.raises(UserError, match="no labelled person"):
        num_until_people(Subset(late, range(3)), 1)
