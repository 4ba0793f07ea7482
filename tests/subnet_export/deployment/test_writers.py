"""Files hold what programs outside this project expect of their formats."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subnet_export.decoding.description import Decoding
from subnet_export.deployment.writers import WriterInputs
from subnet_export.exported_model import ExportedModel
from subnet_export.model import load_model
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.geometry import resize_at_scales

Exported = tuple[ExportedModel, Path]


def test_a_torch_export_archive_takes_other_sizes_and_is_not_loaded_here(all_formats: Exported) -> None:
    model, folder = all_formats
    program = torch.export.load(folder / "model.pt2").module()
    images = torch.zeros(3, 32, 80, 3, dtype=torch.uint8)
    low, high = program(images)
    assert (low.shape, high.shape) == ((3, 28, 8, 20), (3, 14, 16, 40))
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        assert '"use_pickle": true' not in "".join(
            archive.read(name).decode() for name in archive.namelist() if name.endswith("_config.json")
        )
    with pytest.raises(UserError, match=r"torch_export.*load litepose"):
        load_model(folder / "model.pt2")
    error = model.formats["torch_export"].error
    assert error is not None
    assert error < 1e-4


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (0.5, 1.0, 1.5)])
def test_by_default_images_up_to_four_times_as_long_as_wide_have_room(
    scales: tuple[float, ...], exported: Exported
) -> None:
    model = exported[0]
    settings, resolution = replace(model.settings, scales=scales), model.arch.resolution
    inputs = WriterInputs(model.network, "float32", list, Decoding(model.keypoints, settings))
    sides = []
    for height, width in ((10, 39), (40, 10), (10, 10)):
        image = np.zeros((height, width, 3), np.uint8)
        resized, _ = resize_at_scales(image, resolution, settings.size_divisor, scales)
        sides += [max(scaled.shape) for scaled in resized]
    assert inputs.largest_side == max(sides)
    assert replace(inputs, max_side=100).largest_side == 100


def test_safetensors_hold_the_published_names(all_formats: Exported) -> None:
    import safetensors.torch

    state = safetensors.torch.load_file(all_formats[1] / "weights.safetensors")
    LitePose(all_formats[0].arch, 14).load_state_dict(state, strict=True)
    assert state.keys() == torch.load(all_formats[1] / "weights.pt", weights_only=True).keys()
