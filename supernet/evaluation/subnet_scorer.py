"""Scores subnets of a supernet: extract, calibrate, evaluate."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from supernet.arch import Arch
from supernet.compute.device import explain_out_of_memory
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.compute.precision import tf32
from supernet.errors import UserError
from supernet.evaluation.calibration import calibrate
from supernet.evaluation.folding import folded
from supernet.evaluation.sharded_inference import predict_sharded
from supernet.evaluation.subnet_estimator import subnet_estimator
from supernet.litepose import LitePose
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import spread_indices
from supernet.pose.datasets import build, relocated
from supernet.pose.evaluation import Evaluation, evaluate
from supernet.pose.geometry import resize_for_network
from supernet.pose.inference import InferenceSettings, PoseEstimator
from supernet.pose.keypoints import KeypointSet
from supernet.weight_sharing import SuperNet


@dataclass(eq=False)
class SubnetScorer:
    """Scores archs of one supernet on one data set; every score is that of a calibrated subnet.

    Attributes:
        supernet: Trained weights.
        calibration_set: Training images for the batch-norm statistics.
        evaluation_set: Images to score on; the search must not use the training set here.
        settings: Inference settings.
        num_calibration_images: Images used for calibration, spread evenly over the set.
        batch_size: Images per forward pass of an evaluation.
        processes: Processes that score together: all call with the same archs, share the work and get the same scores.
        num_workers: Processes of this machine that share the images of an evaluation on a CPU.
    """

    supernet: SuperNet
    calibration_set: PoseDataset
    evaluation_set: PoseDataset
    settings: InferenceSettings
    num_calibration_images: int = 128
    batch_size: int = 32
    processes: Processes = SINGLE_PROCESS
    num_workers: int = 1
    _batches: dict[int, list[Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, arch: Arch) -> Evaluation:
        """Extract, calibrate and evaluate ``arch``."""
        return self.score(arch, self.evaluation_set)

    def score(self, arch: Arch, images: PoseDataset) -> Evaluation:
        """Extract, calibrate and evaluate ``arch`` on other images than ``evaluation_set``."""
        predict = partial(predict_sharded, self.processes, num_workers=self.num_workers)
        with tf32(allowed=False):  # a GPU then scores as a CPU does, also within a training that allows TF32
            return evaluate(self.estimator(arch), images, predict=predict)

    def estimator(self, arch: Arch) -> PoseEstimator:
        """Return the calibrated subnet as an estimator, its batch norms folded."""
        network = folded(self.subnet(arch))
        return subnet_estimator(network, self.evaluation_set.keypoints, self.settings, self.batch_size)

    def with_supernet(self, supernet: SuperNet) -> "SubnetScorer":
        """Return a scorer of other weights, which shares the calibration images that either of the two loads."""
        scorer = copy.copy(self)
        scorer.supernet = supernet
        return scorer

    def with_workers(self, num_workers: int) -> "SubnetScorer":
        """Return a scorer with so many processes, which shares the calibration images that either of the two loads."""
        scorer = copy.copy(self)
        scorer.num_workers = num_workers
        return scorer

    def subnet(self, arch: Arch) -> LitePose:
        """Return the extracted subnet with statistics calibrated at its own resolution, in evaluation mode."""
        network = self.supernet.extract(arch)
        images = self.calibration_images(arch.resolution)
        doing = f"in the calibration on {self.num_calibration_images} images of {arch.resolution} px"
        with (
            tf32(allowed=False),
            explain_out_of_memory(doing, "lower num_calibration_images, or free memory that other programs use"),
        ):
            calibrate(network, images, self.processes)
        return network

    def calibration_images(self, resolution: int) -> list[Tensor]:
        """Return the batches of ``calibration_batches`` at a resolution, loaded once."""
        if resolution not in self._batches:
            number, divisor = self.num_calibration_images, self.settings.size_divisor
            self._batches[resolution] = calibration_batches(self.calibration_set, resolution, number, divisor)
        return self._batches[resolution]


def chosen_dataset(given: Mapping[str, Any] | None, own: Mapping[str, Any], weights: str) -> Mapping[str, Any]:
    """Return the description of the data set that a command was given, or else that of its weights.

    Args:
        given: The data set that the command line names; None for that of the weights, and of only a ``root`` for that
            of the weights in this folder.
        own: The data set that the weights were trained on.
        weights: What the command line calls the weights.

    Raises:
        UserError: None is given, and the weights do not know the folder of their own, as shipped ones do; or the
            folder that is given does not exist, or the weights were trained on built-in images.
    """
    if given is None and "root" in own and not own["root"]:
        raise UserError(
            f"{weights} comes without images to calibrate and measure on; add dataset=NAME dataset.root=FOLDER, such "
            "as dataset=coco dataset.root=/data/coco"
        )
    if given is not None and set(given) == {"root"}:
        return relocated(own, given["root"])
    return own if given is None else given


def split_for(keypoints: KeypointSet, dataset: Mapping[str, Any], split: str, network: str) -> PoseDataset:
    """Build one split of a data set for a network of certain keypoints, which are then those of the images.

    Args:
        keypoints: The keypoints that the network predicts.
        dataset: Its description (:func:`supernet.pose.datasets.build`).
        split: "train", "val" or "test".
        network: What to call the network in the error message.

    Raises:
        UserError: The data set cannot be built, or is annotated with other keypoints, sigmas or pairs.
    """
    images = build(dataset, split, keypoints)
    different = images.keypoints.difference(keypoints)
    if different is None:
        return images
    annotated, predicted = images.keypoints.name, keypoints.name
    if different == "names" and annotated != predicted:
        rule, remedy = f"dataset.keypoints is {annotated!r} but {network} was trained on {predicted!r}", ""
    else:
        given, own = (
            json.dumps(s.described()[different], separators=(",", ":")) for s in (images.keypoints, keypoints)
        )
        rule = f"dataset.keypoints.{different} is {given} but {network} was trained with {own}"
        remedy = "" if different == "names" else f"set dataset.keypoints.{different}={own} or "
    raise UserError(f"{rule}; {remedy}choose a data set with its keypoints")


def calibration_batches(dataset: PoseDataset, resolution: int, num_images: int, size_divisor: int) -> list[Tensor]:
    """Return ``num_images`` images, evenly spread, resized as for evaluation: (B, 3, H, W) uint8 for each size."""
    by_size: dict[tuple[int, ...], list[Tensor]] = {}
    for index in spread_indices(len(dataset), num_images):
        image, _ = resize_for_network(dataset[index].image, resolution, size_divisor)
        by_size.setdefault(image.shape, []).append(torch.from_numpy(image).permute(2, 0, 1))
    return [torch.stack(images).contiguous(memory_format=torch.channels_last) for images in by_size.values()]
