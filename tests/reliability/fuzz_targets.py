"""All readers of untrusted files, each with a valid file to mutate."""

import functools
import hashlib
import json
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import optuna
import torch
import yaml

from search.budget import Budget, CostModel
from search.lut.devices import benchncnn
from search.lut.devices.kit import FOLDER, KitContents, write_kit
from search.lut.devices.merge import merge
from search.lut.measure import FORMAT as MEASUREMENTS
from search.lut.workloads import MeasurementPlan
from search.optuna_backend.storage import open_storage, open_study
from search.quantities import BYTES, COUNT, MILLISECONDS, parse
from search.report import image_results
from search.runs import resume
from subnet_export.exported_model import Calibration, ExportedModel, Measurement, Origin
from subnet_export.model import load_model, save_model
from supernet.arch import Arch
from supernet.checkpoints import container
from supernet.checkpoints.litepose_checkpoint import read_published
from supernet.checkpoints.supernet_file import load_supernet
from supernet.costs.analytic import params_and_macs
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.io import checksum, files
from supernet.litepose import LitePose, in_channels_last
from supernet.pose.coco.annotations import read_annotations
from supernet.pose.data.image_decoding import read_image
from supernet.pose.data.image_source import image_source
from supernet.pose.evaluation import average_precision
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import COCO
from supernet.pose.metrics.image_matches import ImageMatches
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training import run_folder
from supernet.weight_sharing import SuperNet
from tests.helpers.latency_tables import SPACE as TABLE_SPACE
from tests.helpers.latency_tables import fake_table
from tests.reliability.file_mutations import Target
from tests.reliability.fuzz_encodings import (
    as_image,
    as_json,
    as_json_lines,
    as_kit,
    as_safetensors,
    as_text_lines,
    as_torch,
    as_zip,
    sealed_bytes,
)

STAGE = {"widths": [8, 16], "depths": [1, 2], "stride": 2, "expand_ratios": [1], "kernel_sizes": [3, 5]}
SPACE = SearchSpace.from_dict(
    {
        "name": "tiny",
        "resolutions": [64],
        "stem_widths": [8],
        "stages": [STAGE, STAGE, STAGE, {**STAGE, "stride": 1}],
        "deconv_widths": [[8], [8], [8]],
    }
)
DATASET = {
    "kind": "synthetic",
    "keypoints": "coco",
    "width": 64,
    "height": 64,
    **{split: {"num_images": 2, "seed": seed} for seed, split in enumerate(("train", "val", "test"))},
}


def annotations(_: Path) -> Any:
    person = {
        "id": 1,
        "image_id": 10,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": [20, 30, 2] * 17,
        "num_keypoints": 17,
        "bbox": [15, 25, 40, 40],
        "area": 700.5,
        "segmentation": [[1, 2, 30, 4, 5, 60]],
    }
    return {
        "images": [{"id": 10, "file_name": "a.jpg", "width": 90, "height": 80, "crowdIndex": 0.3}],
        "annotations": [person, {**person, "id": 2}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.names), "skeleton": [[1, 2]]}],
    }


def _truth(folder: Path) -> Any:
    (folder / "results.json").write_bytes(as_json(_results(folder)))
    return annotations(folder)


def _results(folder: Path) -> Any:
    (folder / "truth.json").write_bytes(as_json(annotations(folder)))
    return [{"image_id": 10, "category_id": 1, "keypoints": [20.5, 30.5, 1.0] * 17, "score": 0.5}]


def _genes(_: Path) -> Any:
    return SPACE.encode([SPACE.smallest(), SPACE.largest()]).tolist()


def _decode(path: Path) -> None:
    value = files.read_json(path, "genes")
    try:
        genes = np.asarray(value)
    except ValueError:  # not an array
        return
    for arch in SPACE.decode(genes):
        assert arch in SPACE


def _quantity(path: Path) -> None:
    value = files.read_json(path, "quantity")
    for dimension in (COUNT, BYTES, MILLISECONDS):
        with suppress(UserError):
            parse(value, dimension, "x")
    parse(value, COUNT, "x")


def _budget(path: Path) -> None:
    value = files.read_json(path, "budget")
    if isinstance(value, dict):
        Budget.from_mapping(value, CostModel(SPACE, 17)).check_reachable()


def _benchncnn(folder: Path) -> Any:
    kit = KitContents(MeasurementPlan(SPACE, 3), "ncnn", only_networks=True)
    write_kit(folder / "kit.zip", kit)
    with zipfile.ZipFile(folder / "kit.zip") as archive:
        script = archive.read(f"{FOLDER}/{benchncnn.SCRIPT}").decode()
    (first,) = (line for line in script.splitlines() if line.startswith('echo "kit'))
    settings = ["device a phone", "system Linux", "precision f16", "graph 0 0", "num_threads = 4", "powersave = 2"]
    return [first.split('"')[1], *settings, "    graphs/00000.param  min =    1.20  max =    1.40  avg =    1.30"]


def _manifest(folder: Path) -> Any:
    (folder / "output.txt").write_bytes(as_text_lines(_benchncnn(folder)))
    with zipfile.ZipFile(folder / "kit.zip") as archive:
        return json.loads(archive.read(f"{FOLDER}/manifest.json"))


def _measurements(_: Path) -> Any:
    small = replace(TABLE_SPACE, resolutions=(64,))
    settings = fake_table().to_dict()["settings"]
    plan = MeasurementPlan(small, 14, (small.smallest(), small.largest()))
    head = {**plan.header(settings), "format": MEASUREMENTS}
    visits = [{"round": 0, "subject": name, "ms": [0.1]} for name in plan.workloads()]
    return [head, *visits]


@functools.cache
def supernet_value() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "format": container.FORMAT,
        "kind": "supernet",
        "code": "0",
        "space": SPACE.to_dict(),
        "space_digest": SPACE.digest(),
        "keypoints": "coco",
        "dataset": DATASET,
        "evaluation": {"flip_test": True},
        "objective": {"num_keypoints": 17, "sigma": 2.0, "push_weight": 0.1, "pull_weight": 0.1},
        "state": {name: tensor.clone() for name, tensor in SuperNet(SPACE, 17).state_dict().items()},
    }


def _training(folder: Path) -> Any:
    run_folder.write_config(folder, {"steps": 3})
    return {"format": container.FORMAT, "kind": "training", "config": {"steps": 3}, "step": 1, "rng": [1, (2, 3)]}


def _network() -> LitePose:
    torch.manual_seed(0)
    network = LitePose(SPACE.smallest(), 17).eval()
    in_channels_last(network)
    return network


def _model(folder: Path) -> Any:
    measured, arch = Measurement("test", 2, {"AP": 0.5}), SPACE.smallest()
    model = ExportedModel(
        _network(),
        COCO,
        InferenceSettings(),
        PoseObjective(17),
        DATASET,
        Calibration("train", 2, 64),
        Origin("tiny", SPACE.digest()),
        measured,
        params_and_macs(arch, 17),
    )
    save_model(folder / "model", model)
    for file in ("model.json", "weights.pt"):
        (folder / file).write_bytes((folder / "model" / file).read_bytes())
    return without_checksum(folder / "model.json")


def without_checksum(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file without its checksum, which would detect every change."""
    value: dict[str, Any] = files.read_json(path, "description")
    value.pop(checksum.KEY, None)
    return value


def _weights(folder: Path) -> Any:
    _model(folder)
    return _network().state_dict()


def load_weights(path: Path) -> None:
    """Read an exported model after its description got the checksum of the weights, whatever they are."""
    description = without_checksum(path.parent / "model.json")
    description["weights"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "model.json").write_bytes(as_json(description))
    load_model(path.parent)


def _study(folder: Path) -> Any:
    study = _open_study(folder / "begun.log")
    study.tell(study.ask(), 0.5)
    study.ask()
    return [json.loads(line) for line in (folder / "begun.log").read_text().splitlines()]


def _open_study(path: Path) -> optuna.Study:
    return open_study(open_storage(path), "search", ["ap"], {"the space": "tiny"}, path.name)


def _scores(_: Path) -> Any:
    arch = SPACE.smallest()
    row = {"order": 0, "generation": 0, "origin": "random", "costs": {"macs": 5}, "metrics": {"AP": 0.5}}
    return [
        {**row, "num_images": 2, "arch": arch.to_dict()},
        {**row, "order": 1, "num_images": 2, "arch": arch.to_dict()},
    ]


def _image(suffix: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return bytes(cv2.imencode(suffix, pixels)[1].tobytes())


def _image_matches(_: Path) -> Any:
    matches = ImageMatches(np.array([1, 2]), np.array([1, 0, 1]), np.ones((3, 10), bool), np.zeros((3, 10), bool))
    return {"format": image_results.FORMAT, "val": {"2": {"a": matches.to_text()}}, "test": {}}


def _read_matches(path: Path) -> None:
    for by_number in image_results.load(path.parent).values():
        for texts in by_number.values():
            for text in texts.values():
                ImageMatches.from_text(text)


def search_state(_: Path) -> Any:
    return {"format": resume.FORMAT, "config": {"seed": 0}, "identity": {}, "search": {"generation": 0}}


TARGETS = {
    "arch": Target("arch.json", lambda _: SPACE.largest().to_dict(), as_json, Arch.load),
    "space": Target("space.yaml", lambda _: SPACE.to_dict(), lambda v: yaml.safe_dump(v).encode(), SearchSpace.load),
    "genes": Target("genes.json", _genes, as_json, _decode, False),
    "quantity": Target("quantity.json", lambda _: "60.5M", as_json, _quantity, False),
    "budget": Target("budget.json", lambda _: {"macs": "60M", "min_params": "1%"}, as_json, _budget, False),
    "table": Target("table.json", lambda _: fake_table().to_dict(), as_json, LatencyTable.load),
    "measurements": Target("out.jsonl", _measurements, as_json_lines, lambda path: merge([path])),
    "benchncnn": Target(
        "output.txt", _benchncnn, as_text_lines, lambda path: benchncnn.measurements(path.parent / "kit.zip", [path])
    ),
    "kit": Target(
        "kit.zip", _manifest, as_kit, lambda path: benchncnn.measurements(path, [path.parent / "output.txt"])
    ),
    "annotations": Target("people.json", annotations, as_json, lambda path: read_annotations(path, COCO)),
    "truth": Target(
        "truth.json", _truth, as_json, lambda path: average_precision(path, path.parent / "results.json", "coco")
    ),
    "detections": Target(
        "results.json", _results, as_json, lambda path: average_precision(path.parent / "truth.json", path, "coco")
    ),
    "supernet": Target("supernet.pt", lambda _: supernet_value(), sealed_bytes, load_supernet),
    "shared_supernet": Target("supernet.safetensors", lambda _: supernet_value(), as_safetensors, load_supernet),
    "image_matches": Target("image_matches.json", _image_matches, as_json, _read_matches),
    "training": Target("checkpoint.pt", _training, sealed_bytes, lambda path: run_folder.load_checkpoint(path.parent)),
    "published": Target(
        "old.pth.tar",
        lambda _: {"epoch": 1, "state_dict": _network().state_dict()},
        as_torch,
        lambda path: read_published(path, SPACE.smallest()),
    ),
    "model": Target("model.json", _model, as_json, lambda path: load_model(path.parent)),
    "weights": Target("weights.pt", _weights, as_torch, load_weights),
    "study": Target("study.log", _study, as_json_lines, _open_study),
    "state": Target("state.json", search_state, as_json, lambda path: resume.load_state(path.parent)),
    "scores": Target("scores.jsonl", _scores, as_json_lines, lambda path: resume.load_scored(path.parent)),
    "archive": Target(
        "a.zip", lambda _: [["in/a.jpg", "x"], ["in/b.jpg", "y"]], as_zip, lambda path: image_source(path).read("a.jpg")
    ),
    **{
        f"image{suffix}": Target(f"a{suffix}", lambda _, s=suffix: _image(s), as_image, read_image)  # type: ignore[misc]
        for suffix in (".jpg", ".png", ".bmp", ".webp", ".tiff", ".gif")
    },
}
"""By name."""
