"""Score subnets of a supernet: extract, calibrate, evaluate."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from supernet.arch import Arch
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.compute.precision import tf32
from supernet.errors import UserError
from supernet.evaluation.calibration import calibrate
from supernet.evaluation.sharded_inference import estimate_on_ranks
from supernet.litepose import LitePose
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import spread_indices
from supernet.pose.datasets import build
from supernet.pose.evaluation import Evaluation, evaluate
from supernet.pose.geometry import normalise, resize_for_network
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import KeypointSet
from supernet.weight_sharing import SuperNet

CALIBRATION_BATCH = 32
"""Images a forward pass in calibration, where layers normalise by the batch at hand: fixed, so that a subnet's
statistics, and with them its AP, do not depend on how many images are evaluated together."""


class SubnetScorer:
    """Scores archs of one supernet on one data set; every score is that of a calibrated subnet.

    Args:
        supernet: Trained weights.
        calibration_set: Training images for the batch-norm statistics.
        evaluation_set: Images to score on; the search must not use the training set here.
        settings: Inference settings.
        num_calibration_images: Images used for calibration, spread evenly over the set.
        batch_size: Images per forward pass of an evaluation.
        ranks: Processes that score together: all call with the same archs, share the work and get the same scores.
    """

    def __init__(
        self,
        supernet: SuperNet,
        calibration_set: PoseDataset,
        evaluation_set: PoseDataset,
        settings: InferenceSettings,
        num_calibration_images: int = 128,
        batch_size: int = 32,
        ranks: Processes = SINGLE_PROCESS,
    ) -> None:
        self.supernet, self.settings, self.ranks = supernet, settings, ranks
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
                self.ranks,
            )
        with tf32(allowed=False):
            calibrate(network, (normalise(batch.to(device)) for batch in self._batches[arch.resolution]), self.ranks)
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
            estimate=partial(estimate_on_ranks, self.ranks),
        )


def images_for(keypoints: KeypointSet, dataset: Mapping[str, Any], split: str, network: str) -> PoseDataset:
    """Build one split of a data set for a network of certain keypoints.

    Args:
        keypoints: Those that the network predicts.
        dataset: Its description (:func:`supernet.pose.datasets.build`).
        split: "train", "val" or "test".
        network: What to call the network in the error message.

    Raises:
        UserError: The data set cannot be built or is annotated with other keypoints.
    """
    images = build(dataset, split)
    if images.keypoints != keypoints:
        own, others = images.keypoints.name, keypoints.name
        difference = "others of that name" if own == others else repr(others)
        raise UserError(
            f"dataset.keypoints is {own!r} but {network} was trained on {difference}; "
            "choose a data set with its keypoints"
        )
    return images


def calibration_batches(
    dataset: PoseDataset, resolution: int, num_images: int, size_divisor: int, ranks: Processes = SINGLE_PROCESS
) -> list[Tensor]:
    """Return uint8 batches (B, 3, H, W) of ``num_images`` images, evenly spread, resized as for evaluation.

    B is ``CALIBRATION_BATCH`` or, at the end of the images of one size, what is left. Several ``ranks`` get the same
    batches that one would, each its share of them, which may be none.
    """
    by_size: dict[tuple[int, ...], list[Tensor]] = {}
    for index in spread_indices(len(dataset), num_images):
        image, _ = resize_for_network(dataset[index].image, resolution, size_divisor)
        by_size.setdefault(image.shape, []).append(torch.from_numpy(image).permute(2, 0, 1))
    batches = [
        images[start : start + CALIBRATION_BATCH]
        for images in by_size.values()
        for start in range(0, len(images), CALIBRATION_BATCH)
    ]
    return [
        torch.stack(images).contiguous(memory_format=torch.channels_last)
        for images in batches[ranks.index :: ranks.count]
    ]
