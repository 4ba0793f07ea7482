"""Stores what this release writes, for later ones to read: ``python -m tests.golden.release_recipe``.

The folder is named after the formats, and is never written again once a release has them: a format that changes gets
a folder of its own beside it.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subnet_export.exported_model import Calibration, ExportedModel, Measurement, Origin
from subnet_export.model import load_model, save_model
from supernet.arch import Arch
from supernet.checkpoints import container
from supernet.checkpoints.supernet_file import load_supernet, save_supernet
from supernet.costs.analytic import params_and_macs
from supernet.costs.latency_table import LatencyTable
from supernet.evaluation.calibration import calibrate
from supernet.litepose import in_channels_last
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import CROWDPOSE
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from tests.golden.recipes import image_batch
from tests.helpers.latency_tables import SPACE as TABLE_SPACE
from tests.helpers.latency_tables import fake_table
from tests.helpers.supernets import lively_supernet

FOLDER = Path(__file__).parent / "release"
STAGE = {"widths": [8], "depths": [1], "stride": 2, "expand_ratios": [1], "kernel_sizes": [3, 5]}
SPACE = SearchSpace.from_dict(
    {
        "name": "tiny",
        "resolutions": [64],
        "stem_widths": [8],
        "stages": [STAGE, STAGE, STAGE, {**STAGE, "stride": 1, "depths": [1, 2]}],
        "deconv_widths": [[8], [8], [8]],
    }
)
DATASET = {
    "kind": "synthetic",
    "keypoints": "crowdpose",
    "width": 64,
    "height": 64,
    **{split: {"num_images": 2, "seed": seed} for seed, split in enumerate(("train", "val", "test"))},
}


def outputs(network: torch.nn.Module) -> list[list[float]]:
    """A few numbers of both maps of a network for a known image."""
    with torch.no_grad():
        maps = network(torch.from_numpy(image_batch(0, 64)[:1]))
    return [each.flatten()[:: max(1, each.numel() // 16)].tolist() for each in maps]


def figures(folder: Path) -> dict[str, Any]:
    """What the files of ``folder`` give when they are read."""
    found: dict[str, Any] = {}
    arch = Arch.load(folder / "arch.json")
    for name in ("supernet_format_1", "supernet_format_2"):
        trained = load_supernet(folder / f"{name}.pt")
        found[name] = outputs(trained.supernet.extract(arch))
        found[f"{name}_settings"] = [
            trained.keypoints.name,
            trained.dataset,
            trained.evaluation,
            trained.objective.sigma,
        ]
    model = load_model(folder / "model")
    found["model"] = [*outputs(model.network), [model.measurement.metrics["AP"], *model.costs.values()]]
    table = LatencyTable.load(folder / "table.json")
    found["table"] = [table.predict_ms(table.space.smallest()), table.predict_ms(table.space.largest())]
    return found


def main() -> None:
    """Write the files and what they give."""
    assert not FOLDER.exists(), f"{FOLDER} is what later releases are held to; store new formats elsewhere"
    FOLDER.mkdir()
    supernet = lively_supernet(SPACE, CROWDPOSE.num)
    objective = PoseObjective(CROWDPOSE.num, pull_weight=0.5)
    path = FOLDER / "supernet_format_2.pt"
    save_supernet(path, SPACE, supernet.state_dict(), CROWDPOSE, DATASET, {"flip_test": True}, objective)
    torch.save({**container.load(path, "supernet"), "format": 1}, FOLDER / "supernet_format_1.pt")
    arch = SPACE.sample(np.random.default_rng(1))
    arch.save(FOLDER / "arch.json", {"ap": 0.5})
    network = supernet.extract(arch)
    calibrate(network, [torch.randint(256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)])
    in_channels_last(network)
    origin, measured = Origin("tiny", SPACE.digest()), Measurement("test", 2, {"AP": 0.25})
    calibration, settings = Calibration("train", 2, 64), InferenceSettings(flip_test=True)
    model = ExportedModel(
        network.eval(),
        CROWDPOSE,
        settings,
        objective,
        DATASET,
        calibration,
        origin,
        measured,
        params_and_macs(arch, CROWDPOSE.num),
    )
    save_model(FOLDER / "model", model)
    table = fake_table(replace(TABLE_SPACE, resolutions=(64,)))
    (FOLDER / "table.json").write_text(json.dumps(table.to_dict()) + "\n")
    (FOLDER / "outputs.json").write_text(json.dumps(figures(FOLDER), indent=1) + "\n")


if __name__ == "__main__":
    main()
