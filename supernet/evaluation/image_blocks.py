"""Which images an evaluation runs together: blocks of one input size, each for one forward pass.

Photographs have many sizes. In the order of the data set, most passes would hold one or two images, and a pass of one
image takes longer per image than one of several.
"""

from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.geometry import resized_size
from supernet.pose.inference import CPU_PIXELS, PoseEstimator

BLOCK = 8
"""Images of a block at most. A block is what a process takes at a time: the fewer images, the less the others wait for
the last one."""


def image_blocks(estimator: PoseEstimator, dataset: PoseDataset, total: int) -> list[tuple[int, ...]]:
    """Return indices below ``total`` in blocks, those with the most pixels first, so that small ones fill the end.

    The blocks depend on nothing else, so neither the number of processes nor their speed changes a bit of the result.

    Args:
        estimator: What runs the images.
        dataset: Where they come from; its ground truth says how large they are. Images without a size share blocks.
        total: Number of images.
    """
    by_size: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(input_sizes(estimator, dataset, total)):
        by_size.setdefault(size, []).append(index)
    blocks = []
    for (width, height), indices in by_size.items():
        pixels = width * height * max(estimator.settings.scales) ** 2
        most = min(BLOCK, estimator.largest_batch, int(CPU_PIXELS / pixels)) if pixels else BLOCK
        number = -(-len(indices) // max(1, most))
        shares = [indices[len(indices) * i // number : len(indices) * (i + 1) // number] for i in range(number)]
        blocks += [(pixels * len(share), tuple(share)) for share in shares]
    return [block for _, block in sorted(blocks, key=lambda item: -item[0])]


def input_sizes(estimator: PoseEstimator, dataset: PoseDataset, total: int) -> list[tuple[int, int]]:
    """Return the input size (width, height) at scale 1 of each of the first ``total`` images.

    It is (0, 0) where the ground truth does not say how large an image is.
    """
    images = {image["id"]: image for image in dataset.ground_truth()["images"]} if total else {}
    divisor, smallest = estimator.settings.size_divisor, min(estimator.settings.scales)
    sizes = []
    for image_id in dataset.image_ids[:total]:
        width, height = (images.get(image_id, {}).get(side) for side in ("width", "height"))
        is_known = all(isinstance(side, int) and side > 0 for side in (width, height))
        sizes.append(resized_size(width, height, estimator.resolution, divisor, smallest) if is_known else (0, 0))
    return sizes
