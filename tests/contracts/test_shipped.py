"""The weights in ``supernet/pretrained``: they load, are small, name no machine, and every command takes them."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from search import evolve, optuna_search
from subnet_export import __main__ as export
from subnet_export import benchmark, finetune, predict
from subnet_export.model import load_model
from supernet import evaluate
from supernet.checkpoints import container
from supernet.checkpoints.pretrained import DEFAULT_EXPORT, FOLDER, located, names
from supernet.checkpoints.supernet_file import load_supernet
from supernet.io import files
from supernet.pose.data.image_decoding import read_image
from supernet.pose.drawing import save_image
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.space import SearchSpace
from supernet.training.warm_start import read_warm_start

EXPORTS = ("photos_large", "photos_medium", "photos_small")
CUT_FROM = "6df414d63c86a1b6c91362e4170bb5b26ba134b1ff701fea0d0513249a0bae80"
"""Checksum of the supernet that the exports were cut from, which was fine-tuned after that."""
LEAST_SCORE = 0.2
"""Of the people that ``subnet_export.predict`` shows by default."""


def exit_status(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *words: object) -> int:
    """Call an entry point as from a command line."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_files_are_small_and_tell_nothing_of_a_machine() -> None:
    paths = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert names() == ["photos", *EXPORTS]
    assert located("pretrained:photos").stat().st_size <= 4_000_000
    assert sum(path.stat().st_size for path in paths) <= 8_000_000
    for path in paths:
        found = re.search(rb"(?<![\w.])/(work|tmp|root|home|mnt|Users|var|opt)\b", path.read_bytes())
        assert found is None, (path, found)


def test_the_supernet_is_of_its_space_in_16_bits() -> None:
    trained = load_supernet("pretrained:photos")
    assert trained.supernet.space.digest() == SearchSpace.load("photos").digest()
    assert (trained.keypoints, trained.dataset["root"]) == (COCO, None)
    stored = container.load(located("pretrained:photos"), "supernet")["state"]
    weights = dict(trained.supernet.named_parameters())
    for name, value in trained.supernet.state_dict().items():
        assert stored[name].dtype == (torch.float16 if name in weights else value.dtype)
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_an_arch_of_the_space_in_16_bits_measured_on_all_test_images(name: str) -> None:
    model, trained = load_model(f"pretrained:{name}"), load_supernet("pretrained:photos")
    assert model.origin.supernet_sha256 == CUT_FROM
    assert model.origin.num_finetune_steps == 2000
    subnet = dict(trained.supernet.extract(model.arch).named_parameters())
    for key, value in model.network.named_parameters():
        assert value.shape == subnet[key].shape
        assert torch.equal(value, value.half().float()), key
    assert (model.measurement.split, model.measurement.num_images) == ("test", 1411)
    assert model.dataset["root"] is None
    figures = (f"{model.measurement.metrics['AP']:.3f}", f"{model.costs['macs'] / 1e6:.0f}")
    for card in (FOLDER / "photos.md", Path(__file__).parents[2] / "README.md"):
        (row,) = [line for line in card.read_text().splitlines() if line.startswith(f"| `pretrained:{name}`")]
        assert all(figure in row for figure in figures), (card, row, figures)


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_predicts_17_keypoints_of_each_person_and_always_the_same(name: str) -> None:
    images = [SyntheticPeople(COCO, 3, 5, 320, 240)[index].image for index in range(3)]
    first, second = (load_model(f"pretrained:{name}").predict_all(images) for _ in range(2))
    for people, repeated in zip(first, second, strict=True):
        assert people.poses.shape == (len(people.scores), COCO.num, 3)
        np.testing.assert_array_equal(people.poses, repeated.poses)
        np.testing.assert_array_equal(people.scores, repeated.scores)


@pytest.mark.data
def test_a_person_is_found_on_a_photograph(data_folder: Path) -> None:
    root = data_folder / "coco_people"
    if not root.exists():
        pytest.skip("no coco_people")
    truth = files.read_json(root / "annotations" / "person_keypoints_test2017.json", "annotations")
    large = max((person for person in truth["annotations"] if person["num_keypoints"] == 17), key=lambda p: p["area"])
    (file,) = [image["file_name"] for image in truth["images"] if image["id"] == large["image_id"]]
    people = load_model(DEFAULT_EXPORT).predict(read_image(root / "test2017" / file), LEAST_SCORE)
    expected = np.array(large["keypoints"], np.float64).reshape(-1, 3)[:, :2]
    distances = np.linalg.norm(people.poses[:, :, :2] - expected, axis=2) / large["area"] ** 0.5
    assert np.median(distances, axis=1).min() < 0.1


def test_prediction_needs_neither_a_run_nor_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_image(tmp_path / "photo.png", SyntheticPeople(COCO, 1, 5, 320, 240)[0].image)
    assert exit_status(monkeypatch, predict.main, "photo.png", "--device", "cpu") == 0
    summary = json.loads(Path("runs/predict/latest/summary.json").read_text())
    assert summary["model"] == str(located(DEFAULT_EXPORT).resolve())
    assert "ImageNet" in summary["trained_on"][0]
    capsys.readouterr()
    assert exit_status(monkeypatch, predict.main, "--runs", "own") == 2  # a model of one's own has test images
    assert "there is no exported model in own/export/latest" in capsys.readouterr().err
    assert exit_status(monkeypatch, predict.main, "--model", DEFAULT_EXPORT, "--runs", "own") == 2
    assert "--dataset-root" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "words", "missing"),
    [
        (evaluate.main, "weights=pretrained:photos", "dataset=NAME dataset.root=FOLDER"),
        (evaluate.main, "weights=pretrained:photos_small", "dataset=NAME dataset.root=FOLDER"),
        (evolve.main, "supernet=pretrained:photos", "dataset=NAME dataset.root=FOLDER"),
        (optuna_search.main, "supernet=pretrained:photos", "dataset=NAME dataset.root=FOLDER"),
        (export.main, "--supernet pretrained:photos --arch arch.json", "--dataset-root FOLDER"),
        (finetune.main, "--model pretrained:photos_small", "--dataset-root FOLDER"),
        (benchmark.main, "--model pretrained:photos_small --record", "leave out --record"),
        (predict.main, "a.png --model pretrained:photos", "no exported model"),
    ],
)
def test_what_shipped_weights_lack_is_named(
    main: Callable[[], None],
    words: str,
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    SearchSpace.load("photos").smallest().save(tmp_path / "arch.json")
    save_image(tmp_path / "a.png", np.zeros((32, 32, 3), np.uint8))
    assert exit_status(monkeypatch, main, *words.split()) == 2
    message = capsys.readouterr().err
    assert missing in message
    assert message.count("\n") == 1
    assert not (tmp_path / "runs").exists()


SMALL = ("num_calibration_images=4", "batch_size=2", "device=cpu", "threads=1", "dataset=synthetic")
IMAGES = tuple(f"dataset.{split}.num_images=4" for split in ("train", "val", "test"))


def test_evaluation_takes_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("weights=pretrained:photos", "arch=smallest", *SMALL, *IMAGES, f"runs={tmp_path}")
    assert exit_status(monkeypatch, evaluate.main, *words) == 0
    summary = json.loads((tmp_path / "evaluate" / "latest" / "summary.json").read_text())
    assert summary["arch"] == SearchSpace.load("photos").smallest().to_dict()


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (evolve.main, ("population=2", "generations=1")),
        pytest.param(optuna_search.main, ("startup=2", "evaluations=2"), marks=pytest.mark.slow),
    ],
)
def test_a_search_takes_a_name(
    main: Callable[[], None], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words += ("supernet=pretrained:photos", "top_k=1", "baseline=0", "constraint.macs=200M", f"runs={tmp_path}")
    assert exit_status(monkeypatch, main, *words, *SMALL, *IMAGES, "cache=null") == 0
    (arch,) = tmp_path.glob("*/latest/arch.json")
    assert json.loads(arch.read_text())["img_size"] in (192, 224, 256)


def test_export_and_fine_tuning_take_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SearchSpace.load("photos").smallest().save(tmp_path / "arch.json")
    data = ("--dataset", "synthetic", *IMAGES, "--num-images", 2, "--device", "cpu", "--threads", 1)
    words: tuple[object, ...] = ("--supernet", "pretrained:photos", "--arch", tmp_path / "arch.json", *data)
    words += ("--calibration-images", 4, "--check-images", 2, "--output", tmp_path / "model")
    assert exit_status(monkeypatch, export.main, *words) == 0
    assert load_model(tmp_path / "model").dataset["kind"] == "synthetic"
    words = ("--model", "pretrained:photos_small", "--teacher", "pretrained:photos", *data, "--steps", 1)
    assert exit_status(monkeypatch, finetune.main, *words, "--batch-size", 2, "--output", tmp_path / "tuned") == 0
    assert load_model(tmp_path / "tuned").arch == load_model("pretrained:photos_small").arch


def test_training_starts_from_a_name() -> None:
    start = read_warm_start("pretrained:photos", None, SearchSpace.load("photos"))
    own = load_supernet("pretrained:photos").supernet
    expected = own.network.state_dict()
    assert start.tensors.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in start.tensors.items())
    assert start.kernel_transforms.keys() == own.kernel_transforms.keys()
