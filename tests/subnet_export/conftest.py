"""A tiny untrained supernet on a few small images, and a model exported from it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subnet_export.exported_model import ExportedModel
from subnet_export.exporting.subnet import extract_model
from subnet_export.model import save_model
from supernet.checkpoints.supernet_file import SUPERNET_FILE, TrainedSupernet, load_supernet, save_supernet
from supernet.pose.datasets import build
from supernet.pose.keypoints import CROWDPOSE
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from tests.helpers.export_formats import QUICK, format_writer
from tests.helpers.spaces import SHALLOW
from tests.helpers.supernets import lively_supernet

DATASET: dict[str, Any] = {
    "kind": "synthetic",
    "keypoints": "crowdpose",
    "width": 96,
    "height": 96,
    "train": {"num_images": 8, "seed": 1},
    "val": {"num_images": 2, "seed": 2},
    "test": {"num_images": 3, "seed": 3},
}


@pytest.fixture(scope="session")
def supernet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run's folder; the weights are random, but the maps are not near zero."""
    folder = tmp_path_factory.mktemp("train")
    supernet = lively_supernet(SearchSpace.from_dict(SHALLOW), CROWDPOSE.num)
    space, state = supernet.space, supernet.state_dict()
    save_supernet(
        folder / SUPERNET_FILE, space, state, CROWDPOSE, DATASET, {"detection_threshold": 0.05}, PoseObjective(14)
    )
    return folder


@pytest.fixture(scope="session")
def trained(supernet_folder: Path) -> TrainedSupernet:
    """The supernet, read from its folder."""
    return load_supernet(supernet_folder)


@pytest.fixture(scope="session")
def exported(trained: TrainedSupernet, tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportedModel, Path]:
    """A subnet as it was exported, and the folder it was exported to."""
    arch = trained.supernet.space.sample(np.random.default_rng(5))
    model = extract_model(trained, arch, build(DATASET, "test"), num_calibration_images=6, batch_size=4)
    folder = tmp_path_factory.mktemp("export") / "model"
    save_model(folder, model)
    return model, folder


@pytest.fixture(scope="session")
def all_formats(
    exported: tuple[ExportedModel, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ExportedModel, Path]:
    """The model exported in every format that this environment writes, and its folder."""
    folder = tmp_path_factory.mktemp("formats") / "model"
    model = save_model(folder, exported[0], write_formats=format_writer(exported[0], *QUICK).write)
    return model, folder


@pytest.fixture(scope="session")
def decoding_formats(
    exported: tuple[ExportedModel, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ExportedModel, Path]:
    """The model exported with graphs that decode, and its folder."""
    folder = tmp_path_factory.mktemp("decoding") / "model"
    writer = format_writer(exported[0], "onnx", "openvino", decode=True)
    return save_model(folder, exported[0], write_formats=writer.write), folder
