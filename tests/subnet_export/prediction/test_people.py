"""The people of one image: what they are called, where they are, and how they are drawn and written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from subnet_export.model import load_model
from subnet_export.prediction.people import People, as_image
from supernet.errors import UserError
from supernet.pose.data.image_decoding import read_image
from supernet.pose.keypoints import COCO

IMAGE = np.full((300, 240, 3), 200, np.uint8)


def two_people() -> People:
    """One with three visible keypoints and a guess, and one of guesses only."""
    poses = np.zeros((2, COCO.num, 3), np.float32)
    poses[0, 0], poses[0, 5], poses[0, 6] = (50, 20, 0.9), (30, 80, 0.5), (70, 90, 0.4)
    poses[0, 16], poses[1, 16] = (200, 290, 0.1), (10, 10, 0.05)
    return People(IMAGE, poses, np.array([0.6, 0.3], np.float32), COCO, threshold=0.1, category_id=7)


def test_a_person_has_its_visible_keypoints_by_name_and_the_box_around_them() -> None:
    people = two_people()
    first, second = people
    assert first.box == (30, 20, 70, 90)
    assert list(first.keypoints) == ["nose", "left_shoulder", "right_shoulder"]
    assert first.keypoints["nose"] == pytest.approx((50, 20, 0.9))
    assert first.score == pytest.approx(0.6)
    assert second.keypoints == {}
    assert np.isnan(second.box).all()
    np.testing.assert_array_equal(people.boxes[0], [30, 20, 70, 90])
    assert (len(people), people.names) == (2, COCO.names)


def test_no_people_are_an_empty_sequence() -> None:
    nobody = People(IMAGE, np.zeros((0, COCO.num, 3), np.float32), np.zeros(0, np.float32), COCO)
    assert (len(nobody), list(nobody), nobody.boxes.shape, nobody.to_coco()) == (0, [], (0, 4), [])
    assert nobody.plot().size == (480, 600)


def test_people_are_chosen_by_number_or_slice() -> None:
    people = two_people()
    assert [person.score for person in people[1:]] == [people[np.int64(1)].score] == [people[-1].score]
    assert (len(people[:0]), people[:1].threshold, people[:1].image is IMAGE) == (0, 0.1, True)
    assert people[:1].to_coco() == people.to_coco()[:1]
    with pytest.raises(IndexError):
        people[2]
    for wrong in ("nose", [0], people.scores > 0.5, 0.0):
        with pytest.raises(UserError, match="number or a slice"):
            people[wrong]  # type: ignore[index]


def test_an_image_id_of_numpy_is_written_as_a_number_and_others_than_numbers_and_text_are_refused() -> None:
    assert json.loads(json.dumps(two_people().to_coco(np.int64(139))))[0]["image_id"] == 139  # type: ignore[arg-type]
    with pytest.raises(UserError, match="image_id"):
        two_people().to_coco(1.5)  # type: ignore[arg-type]


def test_results_for_coco_hold_every_keypoint() -> None:
    results = two_people().to_coco(image_id=139)
    assert [(r["image_id"], r["category_id"], len(r["keypoints"])) for r in results] == [(139, 7, 51)] * 2
    assert results[0]["keypoints"][:3] == [50, 20, 1]


@pytest.mark.parametrize("name", ["people.png", "people.jpg"])
def test_the_saved_drawing_is_the_plotted_one(name: str, tmp_path: Path) -> None:
    people = two_people()
    path = people.save(tmp_path / name)
    drawn = np.asarray(people.plot())
    assert np.abs(read_image(path).astype(int) - drawn).mean() < 1
    assert drawn.shape == (600, 480, 3)  # a side below 480 px is enlarged
    assert (drawn != 200).any()
    assert people._repr_png_().startswith(b"\x89PNG")


def test_pillow_images_are_read_as_files_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 2**16, (40, 60)).astype(np.uint16)
    PIL.Image.fromarray(deep).save(tmp_path / "deep.png")
    exif = PIL.Image.Exif()
    exif[274] = 6
    PIL.Image.fromarray(rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)).save(tmp_path / "turned.png", exif=exif)
    for name, shape in (("deep.png", (40, 60, 3)), ("turned.png", (60, 40, 3))):
        with PIL.Image.open(tmp_path / name) as image:
            pixels = as_image(image)
        assert pixels.shape == shape
        np.testing.assert_array_equal(pixels, as_image(tmp_path / name))
    for mode in ("I", "F"):
        with pytest.raises(UserError, match=f"mode {mode} "):
            as_image(PIL.Image.new(mode, (4, 4)))


def test_a_pillow_image_whose_file_is_damaged_or_closed_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    closed = PIL.Image.open(path)
    closed.close()
    path.write_bytes(path.read_bytes()[:-200])
    with PIL.Image.open(path) as truncated:
        for image in (closed, truncated, PIL.Image.new("La", (4, 4))):
            with pytest.raises(UserError):
                as_image(image)


@pytest.mark.parametrize("value", [float("nan"), 20, "0.5", None])
def test_a_score_that_no_person_can_have_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match="min_score"):
        load_model("pretrained:photos_small").predict(np.zeros((64, 64, 3), np.uint8), value)


def test_another_suffix_and_a_place_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"people\.gif"):
        two_people().save(tmp_path / "people.gif")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="file"):
        two_people().save(tmp_path / "file" / "people.png")
