"""Training skips a few broken images: the same replacements everywhere, one warning per image, an error for many."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from supernet.errors import UserError
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.image_decoding import BadImage, read_image
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.skip_broken import SkipBrokenImages
from supernet.pose.datasets import build, resolved
from supernet.pose.training.augmentation import Augmentation, Batch
from supernet.pose.training.loader import StepSampler, training_loader
from tests.helpers.coco_files import write_custom_set

NUM = 64
BROKEN = [5, 6, 7, 20, 30, 40, 50, NUM - 1]


def png(value: int) -> bytes:
    return cv2.imencode(".png", np.full((20, 30, 3), value, np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """64 images with people in JPEG files."""
    root = tmp_path_factory.mktemp("set")
    config = write_custom_set(root, NUM)
    file = root / "annotations" / "train.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        path = root / "train" / image["file_name"]
        cv2.imwrite(str(path.with_suffix(".jpg")), read_image(path))
        path.unlink()
        image["file_name"] = f"{path.stem}.jpg"
    file.write_text(json.dumps(content))
    return root, config


@pytest.fixture
def damaged(originals: tuple[Path, dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """A copy with the eight images ``BROKEN`` damaged in eight ways."""
    root = tmp_path / "set"
    shutil.copytree(originals[0], root)
    names = [image["file_name"] for image in json.loads((root / "annotations/train.json").read_text())["images"]]
    paths = [root / "train" / names[index] for index in BROKEN]
    content = [path.read_bytes() for path in paths]
    paths[0].write_bytes(b"")
    paths[1].write_text("<html>not found</html>")
    paths[2].write_bytes(content[2][: len(content[2]) // 2])
    paths[3].write_bytes(content[3][: len(content[3]) * 9 // 10])
    flipped = bytearray(content[4])
    start = flipped.rfind(b"\xff\xda") + 20
    for place in range(start, start + 400, 20):
        flipped[place] ^= 0xFF
    paths[4].write_bytes(flipped)
    paths[5].write_bytes(png(7)[:-30])
    paths[6].unlink()
    paths[6].mkdir()
    paths[7].unlink()
    return {**originals[1], "root": str(root), "max_bad_share": 0.2}


def load(dataset: PoseDataset, num_steps: int, num_workers: int) -> Iterator[Batch]:
    """Batches of 8 images of 64 px without augmentation."""
    sampler = StepSampler(len(dataset), [64] * num_steps, 8, 0)
    return training_loader(dataset, sampler, Augmentation.none(), num_workers)


def training_set(config: dict[str, Any]) -> SkipBrokenImages:
    people = build(config, "train")
    assert isinstance(people, SkipBrokenImages)
    return people


def test_the_next_good_image_replaces_a_broken_one(damaged: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    people = training_set(damaged)
    ids = list(people.image_ids)
    expected = list(range(NUM))
    for index in BROKEN:
        expected[index] = next(i % NUM for i in range(index, 2 * NUM) if i % NUM not in BROKEN)
    assert people[BROKEN[0]].image_id == ids[expected[BROKEN[0]]]
    # Logged at once without workers: 5, 6 and 7 are broken.
    assert len(caplog.messages) == 3
    assert all("another image takes its place" in message for message in caplog.messages)
    for order in (range(NUM), reversed(range(NUM))):
        assert all(people[index].image_id == ids[expected[index]] for index in order)
    assert len(people) == NUM


def test_each_broken_image_is_logged_once_whichever_process_met_it(
    damaged: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    people = training_set(damaged)
    cached = CachedDataset(people, memory_bytes=0)
    names = [image["file_name"] for image in people.ground_truth()["images"]]
    for num_workers in (2, 0):
        for _ in load(cached, 40, num_workers):
            pass
    people.log_skipped()
    assert {(record.name, record.levelno) for record in caplog.records} == {
        ("supernet.pose.data.skip_broken", logging.WARNING)
    }
    assert len(caplog.messages) == len(BROKEN)
    for index in BROKEN:
        assert len([message for message in caplog.messages if names[index] in message]) == 1
    assert all(message.endswith("; another image takes its place") for message in caplog.messages)


def test_batches_are_the_same_for_every_number_of_workers_and_on_resume(damaged: dict[str, Any]) -> None:
    def batches(num_workers: int, start: int) -> list[torch.Tensor]:
        sampler = StepSampler(NUM, [64] * (20 - start), 8, 3, start)
        loader = training_loader(training_set(damaged), sampler, Augmentation(), num_workers)
        return [torch.cat([batch.images.flatten(1), batch.image_ids[:, None]], 1) for batch in loader]

    whole = batches(0, 0)
    for num_workers, start in ((2, 0), (0, 13)):
        assert all(map(torch.equal, whole[start:], batches(num_workers, start)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_broken_images_stop_training_in_one_sentence(damaged: dict[str, Any], num_workers: int) -> None:
    people = training_set({**damaged, "max_bad_share": 0.1})
    with pytest.raises(UserError, match=r"cannot be used, more than dataset\.max_bad_share=0\.1 allows") as caught:
        list(load(people, 40, num_workers))
    # Two workers may each meet a broken image before they see the other's.
    assert str(caught.value).startswith(
        tuple(f"{count} of the 64 training" for count in (7, 8)[: 1 + num_workers // 2])
    )
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_only_broken_images_stop_training_for_every_share(damaged: dict[str, Any]) -> None:
    shutil.rmtree(Path(damaged["root"]) / "train")
    (Path(damaged["root"]) / "train").mkdir()
    with pytest.raises(UserError, match="64 of the 64 training images"):
        training_set({**damaged, "max_bad_share": 0.999})[3]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_fail_stops_at_the_first_broken_image(damaged: dict[str, Any], num_workers: int) -> None:
    people = build({**damaged, "on_bad_image": "fail"}, "train")
    assert isinstance(people, CocoPeople)
    with pytest.raises(UserError, match=r"^(cannot read )?image .*\.jpg") as caught:
        list(load(people, 8, num_workers))
    assert "\n" not in str(caught.value)


def test_evaluation_never_skips(damaged: dict[str, Any]) -> None:
    for split in ("val", "test"):
        people = build({**damaged, split: damaged["train"]}, split)
        for index in BROKEN[:4] + BROKEN[5:]:
            with pytest.raises(BadImage):
                people[index]
        # Images with inconsistent data are used: published figures include them.
        assert people[BROKEN[4]].image_id == people.image_ids[BROKEN[4]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on_bad_image": "ignore"}, r"dataset.on_bad_image is 'ignore'; choose among \['skip', 'fail'\]"),
        ({"max_bad_share": 1.0}, r"dataset\.max_bad_share must .* got 1\.0"),
        ({"max_bad_share": -0.1}, r"dataset\.max_bad_share must .* got -0\.1"),
        ({"max_bad_shares": 0.1}, "no option dataset.max_bad_shares, did you mean dataset.max_bad_share"),
    ],
)
def test_wrong_options_are_refused(damaged: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(damaged | changes, "train")


@pytest.mark.parametrize(("value", "kind"), [("skip", SkipBrokenImages), ("fail", CocoPeople)])
def test_a_description_of_an_earlier_release_is_read_and_written_with_todays_names(
    damaged: dict[str, Any], value: str, kind: type
) -> None:
    earlier = damaged | {"on_bad_picture": value}
    people = build(earlier, "train")
    assert isinstance(people, kind)
    assert resolved(earlier, people.keypoints) == resolved(damaged | {"on_bad_image": value}, people.keypoints)
    with pytest.raises(UserError, match=r"no option dataset\.on_bad_picture"):
        build(earlier | {"on_bad_image": value}, "train")


def test_a_description_without_the_options_skips_up_to_one_percent(
    damaged: dict[str, Any],
) -> None:
    del damaged["max_bad_share"]
    people: PoseDataset = training_set(damaged)
    with pytest.raises(UserError, match=r"1 of the 64 training .* more than dataset\.max_bad_share=0\.01"):
        people[5]
