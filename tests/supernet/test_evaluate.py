"""Evaluation runs of subnets and of exported models, and the input they refuse."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from supernet import evaluate as entry
from supernet.checkpoints.supernet_file import load_supernet
from supernet.cli.runs import point_latest
from supernet.errors import UserError
from supernet.evaluation.metrics_table import metrics_table
from supernet.evaluation.run import run
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.litepose import LitePose, normalisation_layers
from supernet.pose.data.image_decoding import read_image
from supernet.pose.datasets import build
from supernet.pose.evaluation import average_precision, evaluate
from supernet.pose.inference import PoseEstimator
from supernet.space import SearchSpace
from tests.helpers.evaluated_supernet import SETTINGS, SPACE, Json, export_smallest, write_supernet

Configure = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet with its images."""
    root = tmp_path_factory.mktemp("evaluate")
    write_supernet(root)
    return root


@pytest.fixture(scope="module")
def exported(folder: Path) -> Path:
    """The folder of its exported smallest subnet."""
    return export_smallest(folder)


@pytest.fixture
def configure(folder: Path, tmp_path: Path) -> Configure:
    """Returns the configuration of ``conf/evaluate.yaml`` with overrides; runs go to this test's folder."""
    fixed = [f"weights={folder}", f"runs={tmp_path}", "device=cpu", "threads=1", "arch=smallest", "batch_size=4"]
    fixed += ["num_calibration_images=12"]

    def make(*overrides: str) -> dict[str, Any]:
        with initialize_config_module("conf", version_base="1.3"):
            config = OmegaConf.to_container(compose("evaluate", [*fixed, *overrides]), resolve=True)
        assert isinstance(config, dict)
        return {str(key): value for key, value in config.items()}

    return make


def summary(run_folder: Path) -> Json:
    value: Json = json.loads((run_folder / "summary.json").read_text())
    return value


def test_a_run_leaves_metrics_and_the_results_behind_them(
    configure: Configure, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = run(configure("name=one"))
    assert run_folder == tmp_path / "evaluate" / "one"
    assert (tmp_path / "evaluate" / "latest").resolve() == run_folder.resolve()
    assert sorted(path.name for path in run_folder.iterdir()) == ["results.json", "summary.json"]
    value = summary(run_folder)
    assert 0.05 < value["metrics"]["AP"] < 0.95
    # The files give the same metrics through ``average_precision``.
    assert average_precision(folder / "truth.json", run_folder / "results.json", "crowdpose") == value["metrics"]
    assert value["num_detections"] == len(json.loads((run_folder / "results.json").read_text())) > 12
    assert (value["split"], value["num_images"], value["evaluator"]) == ("test", 12, "pycocotools")
    seconds = value["stages"]["seconds"]
    assert set(seconds) == {"loading", "network", "transfer", "grouping", "ap"}
    assert value["stages"]["slowest"] == max(seconds, key=seconds.__getitem__)
    assert value["arch"] == SPACE.smallest().to_dict()
    assert value["calibration"] == {"split": "train", "num_images": 12, "resolution": 64}
    shown = capsys.readouterr().out
    assert f"{value['metrics']['AP']:.3f}" in shown
    assert "smallest subnet on 12 test images" in shown


@pytest.mark.parametrize(
    ("stopper", "message"), [(KeyboardInterrupt(), "stopped before the end"), (UserError("no memory"), "no memory")]
)
def test_an_evaluation_that_ends_early_leaves_no_run_and_latest_where_it_was(
    stopper: BaseException, message: str, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evaluate" / "before").mkdir(parents=True)
    point_latest(tmp_path / "evaluate" / "before")

    def stop(*_: object, **__: object) -> None:
        raise stopper

    monkeypatch.setattr("supernet.evaluation.run.evaluate", stop)
    with pytest.raises(UserError, match=message):
        run(configure("name=cut"))
    assert sorted(path.name for path in (tmp_path / "evaluate").iterdir()) == ["before", "latest"]
    assert (tmp_path / "evaluate" / "latest").resolve().name == "before"


def test_ap_is_independent_of_the_batch_size(configure: Configure) -> None:
    folders = [run(configure(f"batch_size={size}", f"name=by{size}")) for size in (1, 2, 5, 32)]
    first, *others = (json.loads((folder / "results.json").read_text()) for folder in folders)
    expected, *metrics = (summary(folder)["metrics"] for folder in folders)
    assert 0.01 < expected["AP"] < 1
    for results, actual in zip(others, metrics, strict=True):
        assert [result["image_id"] for result in results] == [result["image_id"] for result in first]
        np.testing.assert_allclose(
            [result["keypoints"] for result in results], [result["keypoints"] for result in first], atol=1e-3
        )
        assert actual == pytest.approx(expected, abs=1e-9)


def test_a_subnet_and_its_export_have_the_same_metrics(configure: Configure, folder: Path, exported: Path) -> None:
    subnet, model = (
        run(configure("name=subnet")),
        run(configure(f"weights={exported}", "arch=null", "name=model")),
    )
    recorded = json.loads((exported / "model.json").read_text())["measurement"]["metrics"]
    assert summary(subnet)["metrics"] == pytest.approx(recorded, abs=1e-6)
    assert summary(model)["metrics"] == pytest.approx(recorded, abs=1e-6)
    calibration = {"split": "train", "num_images": 12, "resolution": 64}
    assert summary(subnet)["calibration"] == calibration
    assert summary(model)["calibration"].items() >= calibration.items()
    assert summary(model)["arch"] == summary(subnet)["arch"]


def test_an_arch_file_largest_and_smallest_name_their_subnets(configure: Configure, tmp_path: Path) -> None:
    SPACE.smallest().save(tmp_path / "arch.json", {"note": "meta is allowed"})
    named, smallest, largest, default = (
        summary(run(configure(f"arch={arch}", f"name=run{number}")))
        for number, arch in enumerate((tmp_path / "arch.json", "smallest", "largest", "null"))
    )
    assert named["metrics"] == smallest["metrics"] != largest["metrics"]
    assert largest["arch"] == default["arch"] == SPACE.largest().to_dict()
    assert largest["metrics"] == default["metrics"]


def test_every_evaluated_network_is_calibrated(
    configure: Configure, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[LitePose] = []

    def remember(estimator: PoseEstimator, *rest: Any, **named: Any) -> Any:
        assert isinstance(estimator.network, LitePose)
        seen.append(estimator.network)
        return evaluate(estimator, *rest, **named)

    monkeypatch.setattr("supernet.evaluation.run.evaluate", remember)
    for number, changes in enumerate((("arch=largest",), (f"weights={exported}", "arch=null"))):
        run(configure(*changes, f"name=run{number}"))
    for network in seen:
        assert not network.training
        for norm in normalisation_layers(network):
            assert norm.running_mean is not None
            assert norm.running_mean.abs().sum() > 0
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("flip_test=true", "flip_test", True),
        ("scales=[0.5,1,2]", "scales", [0.5, 1.0, 2.0]),
        ("adjust=false", "adjust", False),
        ("refine=false", "refine", False),
        ("matching=reference", "matching", "reference"),
    ],
)
def test_inference_options_change_the_results_and_are_recorded(
    configure: Configure, override: str, field: str, value: Any
) -> None:
    plain, changed = run(configure("name=plain")), run(configure(override, "name=changed"))
    before, after = summary(plain)["inference"], summary(changed)["inference"]
    assert before["detection_threshold"] == SETTINGS.detection_threshold  # as stored with the weights
    assert after == {**before, field: value}
    results = [(folder / "results.json").read_text() for folder in (plain, changed)]
    assert (results[0] != results[1]) or field == "matching"


def test_only_the_chosen_images_of_the_chosen_split_are_scored(configure: Configure, folder: Path) -> None:
    value = summary(run(configure("num_images=5", "split=val", "name=part")))
    assert (value["num_images"], value["split"]) == (5, "val")
    truth = json.loads((folder / "truth.json").read_text())
    people = build(load_supernet(folder).dataset, "val")
    scorer = SubnetScorer(load_supernet(folder).supernet, people, people, SETTINGS, 12, 4)
    whole = scorer(SPACE.smallest()).results
    results = json.loads((run(configure("num_images=5", "name=again")) / "results.json").read_text())
    kept = {image["id"] for image in truth["images"][:5]}
    assert len(results) == sum(result["image_id"] in kept for result in whole)
    assert {result["image_id"] for result in results} <= kept


@pytest.mark.parametrize("is_exported", [True, False])
def test_a_broken_image_of_the_training_split_ends_an_evaluation_on_it(
    configure: Configure, folder: Path, exported: Path, tmp_path: Path, is_exported: bool
) -> None:
    shutil.copytree(folder / "images", tmp_path / "images")
    (tmp_path / "images" / "7.png").write_bytes(b"")
    config = configure("split=train", "num_calibration_images=2")
    training = {**load_supernet(folder).dataset, "max_bad_share": 0.5}
    training["train"] = {**training["train"], "images": str(tmp_path / "images")}
    config["dataset"] = training
    if is_exported:
        config |= {"weights": str(exported), "arch": None}
    with pytest.raises(UserError, match=r"7\.png"):
        run(config)


def test_another_data_set_replaces_that_of_the_weights(configure: Configure) -> None:
    small = [f"dataset.{split}.num_images=4" for split in ("train", "val", "test")]
    size = ["dataset.width=80", "dataset.height=64"]
    value = summary(run(configure("dataset=synthetic", "dataset.keypoints=crowdpose", *small, *size, "name=other")))
    assert value["dataset"]["kind"] == "synthetic"
    assert value["num_images"] == 4
    assert value["calibration"]["num_images"] == 4


def test_plots_show_predictions_next_to_the_truth(configure: Configure) -> None:
    run_folder = run(configure("plots=true", "name=drawn"))
    sheet = read_image(run_folder / "plots" / "predictions.png")
    assert sheet.shape[0] > 6 * 300
    assert sheet.shape[1] == 4 * 400 + 3 * 4
    assert len(np.unique(sheet[::16, ::16].reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scales=[0.5,2]"], r"scales must include 1.*got \[0.5, 2\]"),
        (["scales=[]"], "scales must include 1"),
        (["scales=[1,-1]"], r"scales .* above 0.*got \[1, -1\]"),
        (["scales=[1,1.1]"], "scale 1.1 with 1 .*16"),
        (["scales=[0.125,1]"], "scale 0.125 of resolution 64 .*8 px"),
        (["scales=2"], "scales must be a list, got 2"),
        (["matching=best"], "matching is 'best'; choose among"),
        (["batch_size=0"], "batch_size must be at least 1, got 0"),
        (["num_images=0"], "num_images must be at least 1, got 0"),
        (["num_calibration_images=0"], "num_calibration_images must be .*, got 0"),
        (["threads=0"], "threads must be .*, got 0"),
        (["split=dev"], "no split 'dev'"),
        (["arch=nowhere.json"], "nowhere.json"),
        (["weights=nowhere"], "there is no trained supernet or exported model at nowhere"),
        (["device=abacus"], "device 'abacus' is not available"),
        (["device=hpu"], "device 'hpu' is not available"),  # PyTorch looks for a module of that name
        (["name=../up"], "plain folder name"),
        (["dataset=synthetic"], "dataset.keypoints is 'coco' but the supernet .* was trained on 'crowdpose'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    configure: Configure, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(configure(*overrides))
    assert not list(tmp_path.iterdir())


def test_a_file_of_an_exported_model_is_refused_with_its_folder(
    configure: Configure, exported: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(exported, tmp_path / "model"))
    (model / "web").mkdir()
    for name in ("weights.pt", "model.json", "model.onnx", "web/network.onnx"):
        (model / name).touch()
        with pytest.raises(UserError, match=f"{name} is a file of the exported model in {model}; give this folder"):
            run(configure(f"weights={model / name}"))


def test_an_arch_for_an_exported_model_or_from_another_space_is_refused(
    configure: Configure, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"is an exported model.*leave out arch"):
        run(configure(f"weights={exported}", "arch=largest"))
    SearchSpace.load("nano").largest().save(tmp_path / "nano.json")
    with pytest.raises(UserError, match=r"arch file .*nano.json does not fit the supernet .*outside the space"):
        run(configure(f"arch={tmp_path / 'nano.json'}"))
    assert not (tmp_path / "evaluate").exists()


def test_the_command_reports_a_mistake_in_one_sentence_and_help_needs_no_torch(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate", f"weights={folder}", "scales=[2]"])
    with pytest.raises(SystemExit) as stop:
        entry.main()
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: scales must include 1")
    assert message.endswith("got [2]\n")
    assert message.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["evaluate", "--help"])
    for name in [name for name in sys.modules if name.split(".")[0] == "torch"]:
        monkeypatch.setitem(sys.modules, name, None)  # importing it would now raise
    with pytest.raises(SystemExit) as stop:
        entry.main()
    assert not stop.value.code
    assert "weights=" in capsys.readouterr().out


def test_a_stratum_without_people_is_not_a_figure_in_the_table() -> None:
    table = metrics_table("title", {"AP": 0.25, "APM": -1.0})
    assert [list(column.cells) for column in table.columns] == [["0.250"], ["n/a"]]
