"""The Python interface: train, search, export and predict, with the files and mistakes of the commands."""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from search.api import SearchResult, Supernet, load_model, train
from search.api_options import Values, search_config
from subnet_export.deployment.runtimes import OnnxRuntime
from subnet_export.exporting.subnet import extract_model
from supernet.checkpoints.supernet_file import load_supernet
from supernet.errors import UserError
from supernet.pose.datasets import build
from supernet.training.launch import start_or_resume
from supernet.training.settings import TrainSettings
from tests.helpers.searches import plain_config
from tests.helpers.spaces import TINY

SPLITS = {"train": {"num_images": 16}, "val": {"num_images": 6}, "test": {"num_images": 6}}
SMALL_SET: dict[str, Any] = {"width": 96, "height": 96, **SPLITS}
QUICK: dict[str, Any] = {
    "space": TINY,
    "phases": "sandwich",
    "dataset_options": SMALL_SET,
    "steps": 6,
    "batch_size": 2,
    "num_calibration_images": 4,
    "report_random": 0,
    "threads": 1,
    "show": False,
}
SEARCH: dict[str, Any] = {"population": 3, "generations": 2, "num_images": 4, "baseline": 2, "top_k": 2, "threads": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def supernet(place: Path) -> Supernet:
    return train(runs=place / "runs", name="tiny", **QUICK)


@pytest.fixture(scope="module")
def result(supernet: Supernet, place: Path) -> SearchResult:
    return supernet.search(macs="80%", runs=place / "runs", num_calibration_images=4, show=False, **SEARCH)


def test_a_supernet_does_not_search_another_one(supernet: Supernet, place: Path) -> None:
    with pytest.raises(UserError, match=r"does not take supernet.*Supernet\.load"):
        supernet.search(macs="80%", runs=place / "runs", supernet="other.pt", show=False, **SEARCH)


def test_importing_is_light() -> None:
    check = (
        "import sys, search.api; print([name for name in ('torch', 'cv2', 'hydra', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_options_are_those_that_the_command_composes(place: Path, supernet: Supernet) -> None:
    config = json.loads((place / "runs" / "train" / "tiny" / "config.json").read_text())
    composed = plain_config("train", ["phases=sandwich"])
    composed |= {name: value for name, value in QUICK.items() if name not in ("phases", "dataset_options", "show")}
    composed |= {"runs": str(place / "runs"), "name": "tiny"}
    composed["dataset"] |= {"width": 96, "height": 96}
    for split, change in SPLITS.items():
        composed["dataset"][split] |= change
    assert config == composed


def test_training_through_the_api_gives_the_weights_of_the_command(place: Path, supernet: Supernet) -> None:
    config = json.loads((supernet.path.parent / "config.json").read_text()) | {"name": "command"}
    folder = start_or_resume(config)
    ours, theirs = supernet.trained.supernet.state_dict(), load_supernet(folder).supernet.state_dict()
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)


def test_an_interpolated_default_follows_the_option_it_refers_to(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def instead(config: dict[str, Any], overrides: list[str]) -> Path:
        seen.update(config)
        raise UserError("seen")

    monkeypatch.setattr("supernet.training.launch.start_or_resume", instead)
    with pytest.raises(UserError, match="seen"):
        train(targets="unbiased")
    assert (seen["targets"], seen["evaluation"]["decoding"]) == ("unbiased", "unbiased")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"stepz": 3}, r"stepz.*steps"),
        ({"steps": 0}, "steps"),
        ({"dry_run": True}, "dry_run"),
        ({"space": "nanoo"}, "nanoo.*nano"),
        ({"augmentation": {"flip": 1}}, "augmentation.flip"),
        ({"dataset_options": {"colour": 1}}, "colour"),
        ({"steps": object()}, "steps.*object"),
        ({"steps": np.int64(0)}, "steps must be at least 1"),
        ({"augmentation": {"max_scale": {2}}}, "augmentation.max_scale"),
        ({"augmentation.max_scale": 2}, 'augmentation={"max_scale"'),
        ({"dataset_options": ["root"]}, "dataset_options"),
        ({"dataset_options": {"root": Path("/nowhere")}}, "dataset=custom"),
        ({"dataset": "custom", "dataset_options": {"root": Path("/nowhere")}}, "/nowhere"),
        ({"dataset": "custom", "root": "/nowhere"}, 'dataset_options={"root"'),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_written(
    options: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=named):
        train(**options)
    assert not list(tmp_path.iterdir())


def test_a_run_resumes_only_with_options_that_may_change(place: Path, supernet: Supernet) -> None:
    with pytest.raises(UserError, match="finished"):
        train(runs=place / "runs", resume="tiny", show=False)
    with pytest.raises(UserError, match="steps"):
        train(runs=place / "runs", resume="tiny", steps=8, show=False)


def test_a_budget_and_a_data_set_by_name_count_as_given_when_a_search_is_resumed() -> None:
    groups: dict[str, Values] = {"constraint": "xs", "dataset": None}
    assert search_config("evolution", groups, {}, {"resume": "latest"})[1] == ["constraint=xs", "resume=latest"]


def test_the_best_subnet_fits_the_budget_and_is_that_of_the_command(result: SearchResult, supernet: Supernet) -> None:
    assert result.best.costs["macs"] <= 0.8 * supernet.subnet("largest").costs["macs"]
    stored = json.loads((result.folder / "arch.json").read_text())
    assert result.best.arch.digest() == stored["meta"]["digest"]
    assert result.best.metrics["test"]["AP"] == stored["meta"]["ap"]["test"]
    assert result.finalists[0].arch == result.best.arch
    assert {subnet.arch for subnet in result.finalists} <= {subnet.arch for subnet in result.candidates}
    assert result.report.exists()
    assert SearchResult.load(result.folder).best == result.best


def test_a_metric_of_nobody_is_null_in_files_and_minus_one_as_a_value(result: SearchResult) -> None:
    metrics = [row["metrics"] for row in json.loads((result.folder / "candidates.json").read_text())]
    assert any(values["APL"] is None for values in metrics)
    assert -1 not in [value for values in metrics for value in values.values()]
    for subnet in (result.best, *result.finalists, *result.candidates):
        for values in subnet.metrics.values():
            assert all(isinstance(value, float) for value in values.values())


def test_bounds_of_every_name_reach_the_budget(supernet: Supernet, place: Path) -> None:
    with pytest.raises(UserError, match=r"constraint.min_params"):
        supernet.search(min_params="90G", runs=place / "none", show=False)
    with pytest.raises(UserError, match=r"constraint.latency.*table"):
        supernet.search(latency="30ms", runs=place / "none", show=False)
    with pytest.raises(UserError, match=r"populaton.*population"):
        supernet.search(macs="80%", populaton=3, runs=place / "none", show=False)
    with pytest.raises(UserError, match=r"engine.*random"):
        supernet.search(engine="random")  # type: ignore[arg-type]
    assert not (place / "none").exists()


def test_optuna_searches_too(supernet: Supernet, place: Path) -> None:
    pytest.importorskip("optuna")
    options: dict[str, Any] = {"evaluations": 3, "startup": 2, "num_images": 4, "baseline": 0, "top_k": 1, "threads": 1}
    found = supernet.search(engine="optuna", macs="80%", runs=place / "runs", show=False, **options)
    assert (found.folder.parent.name, len(found.candidates)) == ("optuna_search", 3)


def test_an_exported_subnet_runs_in_its_format_and_is_that_of_the_command(
    result: SearchResult, supernet: Supernet, place: Path
) -> None:
    pytest.importorskip("onnxruntime")
    options: dict[str, Any] = {"calibration_images": 4, "batch_size": 4, "check_images": 2}
    model = result.best.export("torch_export, onnx", runs=place / "runs", show=False, **options)
    assert isinstance(model.runtime, OnnxRuntime)
    assert model.folder is not None
    assert (place / "runs" / "export" / "latest").resolve() == model.folder.resolve()
    assert json.loads((model.folder / "summary.json").read_text())["formats"]["onnx"]["num_images"] == 2
    test_set = build(supernet.trained.dataset, "test")
    direct = extract_model(load_supernet(supernet.path), result.best.arch, test_set, 4, 4)
    assert model.measurement == direct.measurement
    image = test_set[0].image
    people, plain = model(image, min_score=0.0), load_model(model.folder).predict(image)
    np.testing.assert_allclose(people.poses, plain.poses, atol=0.05)


def test_an_export_names_what_is_wrong_and_writes_nothing(supernet: Supernet, tmp_path: Path) -> None:
    subnet = supernet.subnet("smallest")
    wrong: list[dict[str, Any]] = [{"colour": 1}, {"batch_size": np.int64(0)}, {"input": "int4"}, {"output": 3}]
    wrong += [{"device": None}, {"dataset_options": ["root"]}, {"max_side": 512}]
    names = ("colour", "batch_size", "int4", "3", "None", "dataset_options", "format executorch")
    for options, named in zip(wrong, names, strict=True):
        with pytest.raises(UserError, match=named):
            subnet.export(**{"output": tmp_path / "model", **options})
    with pytest.raises(UserError, match="onx"):
        subnet.export("onx", output=tmp_path / "model")
    with pytest.raises(UserError, match="litepose"):
        subnet.export(["litepose"], output=tmp_path / "model")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="exists"):
        subnet.export(output=tmp_path)
    with pytest.raises(UserError, match=r"images.*dataset"):
        Supernet.load("pretrained:photos").subnet("smallest").export(output=tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_work_goes_on_outside_the_main_thread(supernet: Supernet, place: Path) -> None:
    found: list[SearchResult] = []

    def search() -> None:
        options = {**SEARCH, "generations": 1, "num_calibration_images": 4}
        found.append(supernet.search(runs=place / "thread", show=False, **options))

    worker = threading.Thread(target=search)
    worker.start()
    worker.join()
    assert found


def test_a_file_an_array_and_a_pillow_image_are_the_same_image(tmp_path: Path) -> None:
    model = load_model("pretrained:photos_small")
    image = build({"kind": "synthetic", "keypoints": "coco", "width": 96, "height": 96, **_seeded()}, "test")[0].image
    PIL.Image.fromarray(image).save(tmp_path / "image.png")
    for given in (tmp_path / "image.png", str(tmp_path / "image.png"), PIL.Image.fromarray(image)):
        assert np.array_equal(model(given).poses, model(image).poses)
    with pytest.raises(UserError, match="int"):
        model(3)  # type: ignore[arg-type]


def test_arguments_of_another_type_are_named(supernet: Supernet) -> None:
    wrongs: list[Any] = [None, 3, ["runs"]]
    for wrong in wrongs:
        for function in (load_model, Supernet.load, SearchResult.load, supernet.subnet):
            with pytest.raises(UserError, match=re.escape(repr(wrong))):
                function(wrong)
    with pytest.raises(UserError, match="onnx"):
        load_model("pretrained:photos_small", format=["onnx"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="evolution"):
        supernet.search(engine=["evolution"])  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["evolution", "optuna"])
def test_a_taken_name_is_refused_before_the_data_set_is_read(engine: Any, supernet: Supernet, tmp_path: Path) -> None:
    (tmp_path / "evolve" / "mine").mkdir(parents=True)
    (tmp_path / "optuna_search" / "mine").mkdir(parents=True)
    options: dict[str, Any] = {"dataset": "custom", "dataset_options": {"root": "/nowhere"}, "runs": tmp_path}
    with pytest.raises(UserError, match=r"mine exists already"):
        supernet.search(engine=engine, name="mine", show=False, **options)


def test_a_number_of_numpy_is_one_of_python() -> None:
    config, _ = search_config(
        "evolution", {}, {"macs": np.int64(3)}, {"top_k": np.int32(4), "num_images": np.array([2, 3])}
    )
    assert (config["constraint"]["macs"], config["top_k"], config["num_images"]) == (3, 4, [2, 3])
    assert type(config["top_k"]) is int


def test_results_stay_where_they_are_when_the_folder_changes(
    result: SearchResult, supernet: Supernet, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    again, own = SearchResult.load(result.folder.relative_to(place)), Supernet.load(supernet.path.relative_to(place))
    monkeypatch.chdir(tmp_path)
    assert len(again.candidates) == len(result.candidates)
    assert again.report.exists()
    assert own.path.exists()


def test_a_model_and_a_supernet_in_each_other_s_place_are_named() -> None:
    with pytest.raises(UserError, match="pretrained:photos is no exported model"):
        load_model("pretrained:photos")
    with pytest.raises(UserError, match="pretrained:photos_small is an exported model"):
        Supernet.load("pretrained:photos_small")
    for function, name in ((load_model, "photos_small"), (Supernet.load, "photos")):
        with pytest.raises(UserError, match=f"did you mean pretrained:{name}"):
            function(name)


def _seeded() -> dict[str, Any]:
    return {split: {"num_images": 2, "seed": seed} for seed, split in enumerate(SPLITS)}


def test_every_default_of_training_is_in_the_configuration() -> None:
    assert TrainSettings.__dataclass_fields__.keys() == plain_config("train").keys()
