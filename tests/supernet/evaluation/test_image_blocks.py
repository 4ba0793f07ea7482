"""Images of one input size share the blocks of an evaluation."""

from dataclasses import replace
from typing import Any, ClassVar, cast

import pytest
from torch import Tensor, nn

from supernet.evaluation.image_blocks import BLOCK, image_blocks
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.geometry import resized_size
from supernet.pose.inference import CPU_PIXELS, InferenceSettings, PoseEstimator
from supernet.pose.keypoints import COCO

SIZES: list[tuple[int, int] | None] = [(640, 480), (480, 640), (640, 426), None, *[(640, 480)] * 20, (100, 100), None]


class Sized:
    """A data set that knows the sizes of its images, and no more."""

    image_ids: ClassVar = [10 * index for index in range(len(SIZES))]

    def ground_truth(self) -> dict[str, Any]:
        known = ({"width": size[0], "height": size[1]} if size else {} for size in SIZES)
        return {"images": [{"id": image, **size} for image, size in zip(self.image_ids, known, strict=True)][::-1]}


def blocks(resolution: int = 256, total: int = len(SIZES), **settings: Any) -> list[tuple[int, ...]]:
    estimator = PoseEstimator(network, resolution, COCO, replace(InferenceSettings(), **settings), batch_size=6)
    return image_blocks(estimator, cast(PoseDataset, Sized()), total)


def network(images: Tensor) -> tuple[Tensor, Tensor]:
    return nn.Identity()(images), images


def input_size(index: int, resolution: int) -> tuple[int, int] | None:
    size = SIZES[index]
    return None if size is None else resized_size(*size, resolution)


@pytest.mark.parametrize("total", [0, 1, 3, len(SIZES)])
def test_every_image_is_in_one_block(total: int) -> None:
    assert sorted(index for block in blocks(total=total) for index in block) == list(range(total))


@pytest.mark.parametrize("settings", [{}, {"scales": (1.0, 2.0)}])
@pytest.mark.parametrize("resolution", [64, 256, 512])
def test_a_block_is_one_forward_pass(resolution: int, settings: dict[str, Any]) -> None:
    for block in blocks(resolution, **settings):
        sizes = {input_size(index, resolution) for index in block}
        assert len(sizes) == 1
        assert len(block) <= BLOCK
        if (size := sizes.pop()) is not None:
            scale = max(settings.get("scales", [1.0]))
            assert len(block) <= 6 / scale**2 or len(block) == 1
            assert len(block) * size[0] * size[1] * scale**2 <= CPU_PIXELS or len(block) == 1


def test_images_of_one_size_fill_few_blocks_of_equal_length() -> None:
    lengths = [len(block) for block in blocks() if SIZES[block[0]] == (640, 480)]
    most = CPU_PIXELS // (384 * 256)
    assert len(lengths) == -(-21 // most)
    assert max(lengths) - min(lengths) <= 1


def test_the_blocks_with_the_most_pixels_come_first() -> None:
    def pixels(block: tuple[int, ...]) -> int:
        size = input_size(block[0], 256)
        return 0 if size is None else len(block) * size[0] * size[1]

    found = [pixels(block) for block in blocks()]
    assert found == sorted(found, reverse=True)
