"""A LitePose as a pose estimator."""

from supernet.litepose import LitePose
from supernet.pose.inference import InferenceSettings, PoseEstimator
from supernet.pose.keypoints import KeypointSet


def subnet_estimator(
    network: LitePose, keypoints: KeypointSet, settings: InferenceSettings, batch_size: int = 32
) -> PoseEstimator:
    """Return an estimator that runs ``network`` at its own resolution, on the device it is on."""
    device = next(network.parameters()).device
    return PoseEstimator(network, network.arch.resolution, keypoints, settings, batch_size, device)
