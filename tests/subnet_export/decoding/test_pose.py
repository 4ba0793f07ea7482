"""``pose.py`` finds the people that the project finds, and needs neither the project nor PyTorch nor SciPy."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import linear_sum_assignment

from search.lut import measure
from subnet_export.decoding import pose
from subnet_export.exported_model import ExportedModel
from subnet_export.model import load_model, save_model
from supernet.pose.datasets import build
from supernet.pose.drawing import save_image
from supernet.pose.inference import InferenceSettings
from tests.helpers.export_formats import format_writer, require_environment
from tests.helpers.golden_people import GoldenPeople, golden_people

Exported = tuple[ExportedModel, Path]
Image = npt.NDArray[np.uint8]

WITHOUT_THE_PROJECT = """
import importlib.abc, runpy, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "scipy", "supernet", "search", "subnet_export", "conf", "onnx"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def images(model: ExportedModel) -> list[Image]:
    """Images of several shapes with people."""
    image = build(model.dataset, "test")[0].image
    wide = cv2.resize(build(model.dataset, "test")[1].image, (211, 96))
    return [image, image[:, :61], image[:43], np.asarray(wide, np.uint8), image[:2, :90]]


def same_people(program: pose.Pose, model: ExportedModel) -> int:
    """Assert that both find the same people; return their number."""
    num = 0
    for image in images(model):
        expected = model.predict(image)
        poses, scores = program(image)
        np.testing.assert_allclose(poses, expected.poses, atol=0.01)
        np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
        num += len(scores)
    return num


@pytest.mark.parametrize("case", golden_people(), ids=lambda case: case.name)
def test_people_are_the_golden_ones(case: GoldenPeople) -> None:
    def fill_in(*lack: Any) -> pose.Array:
        return pose.from_list(case.detections, *lack)

    case.check(*pose.group(list(case.detections), case.decoder, fill_in))


def test_assignments_are_scipys_also_between_equal_costs() -> None:
    random = np.random.default_rng(0)
    draws: list[Callable[[tuple[int, int]], npt.NDArray[Any]]] = [
        lambda size: random.uniform(size=size),
        lambda size: random.integers(0, 3, size).astype(float),
        lambda size: 100.0 * random.integers(0, 2, size) - random.choice([0.25, 0.5, 0.75], (size[0], 1)),
        lambda size: np.zeros(size),
    ]
    for number in range(400):
        rows = int(random.integers(1, 13))
        cost = draws[number % len(draws)]((rows, rows + int(random.integers(0, 13))))
        expected_rows, expected = linear_sum_assignment(cost)
        np.testing.assert_array_equal(expected_rows, np.arange(rows))
        np.testing.assert_array_equal(pose.assign(cost), expected)


def test_the_people_are_those_of_the_project(all_formats: Exported) -> None:
    folder = all_formats[1]
    assert same_people(pose.Pose(folder, threads=1), load_model(folder, format="onnx")) > 4
    assert same_people(pose.Pose(folder / "model.onnx", threads=1), load_model(folder)) > 4


def test_outputs_that_are_not_finite_are_refused(all_formats: Exported) -> None:
    program = pose.Pose(all_formats[1], threads=1)
    run = program.run
    program.run = lambda images: {name: values + np.float32("nan") for name, values in run(images).items()}
    with pytest.raises(ValueError, match="not finite"):
        program(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(("name", "file"), [("ncnn", "model.ncnn.param"), ("mnn", "model.mnn")])
def test_other_libraries_give_the_same_people(name: str, file: str, all_formats: Exported) -> None:
    model, folder = all_formats
    if name not in model.formats:
        pytest.skip(f"{name} is not installed")
    assert same_people(pose.Pose(folder / file, threads=1), load_model(folder)) > 4


@pytest.mark.parametrize("num_cores", [pose.num_cores, measure.num_cores])
def test_programs_without_the_project_count_the_cores_that_they_may_use(
    num_cores: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3}, raising=False)
    assert num_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert num_cores() == 64


def test_a_file_may_have_another_name(all_formats: Exported, tmp_path: Path) -> None:
    shutil.copy(all_formats[1] / "model.onnx", tmp_path / "small ä.onnx")
    same_people(pose.Pose(tmp_path / "small ä.onnx", threads=1), all_formats[0])
    (tmp_path / "model.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"model\.txt is not a file like model\.onnx"):
        pose.Pose(tmp_path / "model.txt")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"model\.onnx is not a network"):
        pose.Pose(tmp_path)


def test_a_file_that_mnn_cannot_read_leaves_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if find_spec("MNN") is None:  # an import would greet here
        pytest.skip("MNN is not installed")
    path = tmp_path / "model.mnn"
    path.write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"model\.mnn"):
        pose.Pose(path)
    os.write(1, b"a result")
    assert capfd.readouterr().out == "a result"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("litert", "model.tflite"),
        pytest.param("litert_int8", "model_int8.tflite", marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
)
def test_litert_gives_the_same_people(name: str, file: str, exported: Exported, tmp_path: Path) -> None:
    require_environment(name)
    folder, writer = tmp_path / "model", format_writer(exported[0], name, max_int8_loss=1.0)
    save_model(folder, exported[0], write_formats=writer.write)
    for place in (folder, folder / file):
        assert same_people(pose.Pose(place, threads=1), load_model(folder, format=name)) > 4


def test_the_people_of_a_graph_that_decodes_are_those_of_the_project(decoding_formats: Exported) -> None:
    folder = decoding_formats[1]
    program = pose.Pose(folder, threads=1)
    assert "detections" in program.run(np.zeros((1, 64, 64, 3), np.uint8))
    for name in ("onnx", "openvino"):
        assert same_people(program, load_model(folder, format=name)) > 4


@pytest.mark.parametrize(
    ("changes", "takes"),
    [
        ({"flip_test": True, "decoding": "unbiased"}, "uint8"),
        ({"decoding": "unbiased", "matching": "reference", "max_people": 3}, "float32"),
        ({"adjust": False, "refine": False, "nms_kernel": 3, "size_divisor": 32}, "uint8"),
    ],
    ids=str,
)
def test_the_settings_and_the_input_of_the_model_count(
    changes: dict[str, Any], takes: str, exported: Exported, tmp_path: Path
) -> None:
    model = replace(exported[0], settings=replace(exported[0].settings, **changes))
    writer = format_writer(model, "onnx", takes=takes)
    save_model(tmp_path / "model", model, write_formats=writer.write)
    same_people(pose.Pose(tmp_path / "model", threads=1), load_model(tmp_path / "model", format="onnx"))


@pytest.mark.parametrize(("name", "file"), [("onnx", "model.onnx"), ("mnn", "model.mnn")])
def test_the_command_runs_without_the_project_and_draws(
    name: str, file: str, all_formats: Exported, tmp_path: Path
) -> None:
    model, folder = all_formats
    if name not in model.formats:
        pytest.skip(f"{name} is not installed")
    image = images(model)[0]
    save_image(tmp_path / "people.png", image)
    arguments = [folder / "pose.py", tmp_path / "people.png", "--min-score", "0", "--draw", tmp_path / "drawn"]
    arguments += ["--model", folder / file]
    command = [sys.executable, "-c", WITHOUT_THE_PROJECT, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    line = json.loads(result.stdout)
    expected = load_model(folder, format=name).predict(image)
    assert (line["width"], line["height"], len(line["people"])) == (96, 96, len(expected.scores))
    found = np.array([person["keypoints"] for person in line["people"]]).reshape(expected.poses.shape)
    np.testing.assert_allclose(found, expected.poses, atol=0.01)
    drawing = cv2.imread(str(tmp_path / "drawn" / "people.jpg"))
    assert drawing is not None
    assert drawing.shape == image.shape
    assert (drawing[..., ::-1] != image).any()
    before = (tmp_path / "people.png").read_bytes()
    for target in ("drawn", "."):
        arguments[-3] = str(tmp_path / target)
        subprocess.run([*command[:3], *map(str, arguments)], capture_output=True, cwd=tmp_path, check=True)
    assert (tmp_path / "people.png").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["people.jpg", "people2.jpg"]
    (tmp_path / "people.png").write_bytes(b"")
    refused = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.endswith(f"pose.py: {tmp_path / 'people.png'} is not an image\n")


def test_what_it_cannot_run_is_one_sentence(exported: Exported, tmp_path: Path) -> None:
    for arguments, wrong in (
        ([tmp_path / "missing.jpg", "--model", exported[1]], "model.onnx"),
        ([tmp_path / "missing.jpg", "--model", tmp_path / "nothing"], "nothing"),
    ):
        command = [sys.executable, pose.__file__, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 2
        assert wrong in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_wrong_images_and_several_scales_are_refused(all_formats: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    program = pose.Pose(all_formats[1], threads=1)
    program(np.zeros((2, 128, 3), np.uint8))
    wrong: list[npt.NDArray[Any]] = [np.zeros((64, 64, 3), np.float32)]
    wrong += [np.zeros(shape, np.uint8) for shape in ((64, 64), (2, 129, 3), (0, 5, 3), (0, 0, 3))]
    for image in wrong:
        with pytest.raises(ValueError, match="image"):
            program(image)
    several = {**program.description, "inference": {**program.settings, "scales": [0.5, 1.0]}}
    monkeypatch.setitem(pose.RUNTIMES, "model.onnx", lambda path, threads: (program.run, "uint8", several))
    with pytest.raises(ValueError, match=r"0\.5"):
        pose.Pose(all_formats[1])


def test_another_runtime_is_a_function_of_its_own(
    all_formats: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without metadata takes the description from model.json."""
    program = pose.Pose(all_formats[1], threads=1)
    (tmp_path / "model.json").write_bytes((all_formats[1] / "model.json").read_bytes())
    (tmp_path / "model.other").touch()

    def open_other(path: Path, threads: int) -> tuple[Any, str, Any]:
        assert (path.name, threads) == ("model.other", 2)
        return program.run, "uint8", None

    monkeypatch.setitem(pose.RUNTIMES, "model.other", open_other)
    other = pose.Pose(tmp_path, threads=2)
    image = images(all_formats[0])[0]
    for found, expected in zip(other(image), program(image), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.data
@pytest.mark.slow
def test_average_precision_on_photographs_is_that_of_the_project(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from supernet.pose.inference import PosePredictions, as_results
    from supernet.pose.keypoints import COCO
    from supernet.pose.metrics.average_precision import KeypointEvaluator

    root = Path(request.config.getoption("--data")) / "coco_mini"
    annotations = json.loads((root / "annotations" / "person_keypoints_train2017.json").read_text())
    model = load_model("pretrained:photos_small")
    with_onnx = replace(model, dataset={**model.dataset, "root": str(root)})
    (tmp_path / "model").mkdir()
    from subnet_export.decoding.description import Decoding
    from subnet_export.deployment.formats import ONNX
    from subnet_export.deployment.writers import WriterInputs, write_format

    decoding = Decoding(with_onnx.keypoints, with_onnx.settings)
    write_format(ONNX, WriterInputs(model.network, "uint8", list, decoding), tmp_path / "model")
    program = pose.Pose(tmp_path / "model" / "model.onnx", threads=1)
    results: dict[str, list[Any]] = {"project": [], "pose.py": []}
    for entry in annotations["images"][:40]:
        image = cv2.imread(str(root / "train2017" / entry["file_name"]), cv2.IMREAD_COLOR)
        assert image is not None
        rgb = np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)
        results["project"] += as_results(model.predict(rgb), entry["id"])
        results["pose.py"] += as_results(PosePredictions(*program(rgb)), entry["id"])
    ids = {entry["id"] for entry in annotations["images"][:40]}
    annotations["images"] = annotations["images"][:40]
    annotations["annotations"] = [one for one in annotations["annotations"] if one["image_id"] in ids]
    evaluator = KeypointEvaluator(annotations, COCO)
    scores = {name: evaluator.score(found)["AP"] for name, found in results.items()}
    assert scores["project"] > 0.02
    assert scores["pose.py"] == pytest.approx(scores["project"], abs=1e-4)
    assert isinstance(model.settings, InferenceSettings)
