"""Score subnets of a supernet: extract, calibrate, evaluate."""

import numpy as np
import torch
from torch import Tensor

from supernet.arch import Arch
from supernet.calibration import calibrate
from supernet.litepose import LitePose
from supernet.pose.dataset import PoseDataset
from supernet.pose.evaluation import Evaluation, evaluate
from supernet.pose.geometry import normalise, resize_for_network
from supernet.pose.inference import InferenceSettings
from supernet.weight_sharing import SuperNet


class SubnetScorer:
    """Scores archs of one supernet on one data set; every score is that of a calibrated subnet.

    Args:
        supernet: Trained weights.
        calibration_set: Training pictures for the batch-norm statistics.
        evaluation_set: Pictures to score on; the search must not use the training set here.
        settings: Inference settings.
        num_calibration_images: Pictures used for calibration, spread evenly over the set.
        batch_size: Pictures per forward pass.
    """

    def __init__(
        self,
        supernet: SuperNet,
        calibration_set: PoseDataset,
        evaluation_set: PoseDataset,
        settings: InferenceSettings,
        num_calibration_images: int = 128,
        batch_size: int = 32,
    ) -> None:
        self.supernet, self.settings = supernet, settings
        self.calibration_set, self.evaluation_set = calibration_set, evaluation_set
        self.num_calibration_images, self.batch_size = num_calibration_images, batch_size
        self._batches: dict[int, list[Tensor]] = {}

    def subnet(self, arch: Arch) -> LitePose:
        """Return the extracted subnet with statistics calibrated at its own resolution, in evaluation mode."""
        network = self.supernet.extract(arch)
        device = next(network.parameters()).device
        if arch.resolution not in self._batches:
            self._batches[arch.resolution] = calibration_batches(
                self.calibration_set,
                arch.resolution,
                self.num_calibration_images,
                self.settings.size_divisor,
                self.batch_size,
            )
        calibrate(network, (normalise(batch.to(device)) for batch in self._batches[arch.resolution]))
        return network

    def __call__(self, arch: Arch) -> Evaluation:
        """Extract, calibrate and evaluate ``arch``."""
        network = self.subnet(arch)
        return evaluate(
            network,
            self.evaluation_set,
            arch.resolution,
            self.settings,
            batch_size=self.batch_size,
            device=next(network.parameters()).device,
        )


def calibration_batches(
    dataset: PoseDataset, resolution: int, num_images: int, size_divisor: int, batch_size: int
) -> list[Tensor]:
    """Return uint8 batches (B, 3, H, W) of ``num_images`` pictures, evenly spread, resized as for evaluation."""
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(num_images, len(dataset))).round().astype(int)).tolist()
    by_size: dict[tuple[int, ...], list[Tensor]] = {}
    for index in indices:
        image, _ = resize_for_network(dataset[index].image, resolution, size_divisor)
        by_size.setdefault(image.shape, []).append(torch.from_numpy(image).permute(2, 0, 1))
    return [
        torch.stack(images[start : start + batch_size]).contiguous(memory_format=torch.channels_last)
        for images in by_size.values()
        for start in range(0, len(images), batch_size)
    ]
