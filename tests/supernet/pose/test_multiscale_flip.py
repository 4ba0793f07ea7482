"""A network's outputs are combined as published: two sizes, mirrored copies, several scales."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from supernet.errors import UserError
from supernet.pose.inference import InferenceSettings, PoseEstimator
from supernet.pose.keypoints import COCO, CROWDPOSE
from supernet.pose.multiscale_flip import heatmaps, predict_maps, resize


def resized(maps: Tensor, height: int, width: int) -> Tensor:
    """Resize bilinearly between pixel centres, one output pixel after the other."""
    out = torch.zeros(*maps.shape[:2], height, width)
    for row in range(height):
        for column in range(width):
            y = max(0.0, (row + 0.5) * maps.shape[2] / height - 0.5)
            x = max(0.0, (column + 0.5) * maps.shape[3] / width - 0.5)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, maps.shape[2] - 1), min(x0 + 1, maps.shape[3] - 1)
            top = maps[..., y0, x0] * (1 - x + x0) + maps[..., y0, x1] * (x - x0)
            bottom = maps[..., y1, x0] * (1 - x + x0) + maps[..., y1, x1] * (x - x0)
            out[..., row, column] = top * (1 - y + y0) + bottom * (y - y0)
    return out


def test_heatmaps_are_averaged_at_the_finer_size_and_tags_resized_twice() -> None:
    low, high = torch.rand(1, 34, 4, 5), torch.rand(1, 17, 8, 10)
    ((heat, tags),) = predict_maps(lambda _: (low, high), {1.0: torch.zeros(1, 3, 16, 20)}, COCO, flip_test=False)
    torch.testing.assert_close(heat, resized((resized(low[:, :17], 8, 10) + high) / 2, 16, 20)[0])
    torch.testing.assert_close(tags, resized(resized(low[:, 17:], 8, 10), 16, 20)[0, ..., None])


@pytest.mark.parametrize("size", [(24, 40), (23, 57), (96, 160)])
def test_resizing_on_a_cpu_equals_torchs(size: tuple[int, int]) -> None:
    low = torch.randn(2, 6, 12, 20).to(memory_format=torch.channels_last).to(torch.bfloat16)
    high = torch.randn(2, 6, 24, 40)
    finer = interpolate(low.float(), size=(24, 40), mode="bilinear", align_corners=False)
    for actual, source in ((heatmaps(low, high, size), (finer + high) / 2), (resize(low, (24, 40), size), finer)):
        expected = interpolate(source, size=size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_a_network_of_another_keypoint_set_is_refused() -> None:
    outputs = torch.zeros(1, 28, 4, 4), torch.zeros(1, 14, 8, 8)
    with pytest.raises(UserError, match=r"28 and 14 .*17 keypoints"):
        list(predict_maps(lambda _: outputs, {1.0: torch.zeros(1, 3, 16, 16)}, COCO, flip_test=False))


def test_a_mirrored_copy_is_mirrored_back_and_its_sides_are_swapped() -> None:
    """With a network whose outputs mirror exactly, both copies give the same maps."""
    swap = list(COCO.flip_index)
    low, high = torch.rand(1, 34, 8, 8), torch.rand(1, 17, 16, 16)
    mirrored_low = torch.cat([low[:, :17].flip(3)[:, swap], low[:, 17:].flip(3)[:, swap]], dim=1)
    mirrored_high = high.flip(3)[:, swap]
    image = torch.rand(1, 3, 32, 32)

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        if torch.equal(images, image):
            return low, high
        assert torch.equal(images, image.flip(3))
        return mirrored_low, mirrored_high

    (plain,) = predict_maps(network, {1.0: image}, COCO, flip_test=False)
    (both,) = predict_maps(network, {1.0: image}, COCO, flip_test=True)
    torch.testing.assert_close(both[0], plain[0])
    assert plain[1].shape == (17, 32, 32, 1)
    torch.testing.assert_close(both[1], plain[1].expand(-1, -1, -1, 2))


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0), (2.0, 1.0)])
def test_heatmaps_of_all_scales_are_averaged_and_tags_are_those_of_scale_1(
    scales: tuple[float, ...], flip_test: bool
) -> None:
    """Written out with torch's own resizing: at each scale both outputs, then both copies, then all scales."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(28 + 14, 3, generator=generator)
    images = {scale: torch.rand(2, 3, int(32 * scale), int(64 * scale), generator=generator) for scale in scales}

    def network(batch: Tensor) -> tuple[Tensor, Tensor]:
        maps = torch.einsum("ck,bkhw->bchw", weights, batch)
        return maps[:, :28, ::4, ::4], maps[:, 28:, ::2, ::2]

    def to_size(maps: Tensor, height: int, width: int) -> Tensor:
        return interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)

    heat, tags = [], []
    swap = list(CROWDPOSE.flip_index)
    for scale, batch in images.items():
        for mirrored in (False, True)[: 1 + flip_test]:
            low, high = network(batch.flip(3) if mirrored else batch)
            low = to_size(low, high.shape[2], high.shape[3])
            heat_maps, tag_maps = to_size((low[:, :14] + high) / 2, 32, 64), to_size(low[:, 14:], 32, 64)
            heat.append(heat_maps.flip(3)[:, swap] if mirrored else heat_maps)
            if scale == 1:
                tags.append(tag_maps.flip(3)[:, swap] if mirrored else tag_maps)
    heats_by_image, tags_by_image = zip(*predict_maps(network, images, CROWDPOSE, flip_test), strict=True)
    torch.testing.assert_close(torch.stack(heats_by_image), torch.stack(heat).mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.stack(tags_by_image), torch.stack(tags, -1), atol=1e-5, rtol=0)
    assert all(tag_map.is_contiguous() for maps in tags_by_image for tag_map in maps.unbind(-1))


def test_larger_scales_run_in_smaller_batches() -> None:
    seen: list[tuple[int, ...]] = []

    def network(batch: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((batch.shape[0], batch.shape[2]))
        height, width = batch.shape[2:]
        zeros = torch.zeros(len(batch), 28, height // 4, width // 4)
        return zeros, torch.zeros(len(batch), 14, height // 2, width // 2)

    images = [np.zeros((64, 64, 3), np.uint8)] * 5
    PoseEstimator(network, 64, CROWDPOSE, InferenceSettings(scales=(1.0, 2.0)), batch_size=8)(images)
    assert seen == [(2, 64), (2, 128), (2, 64), (2, 128), (1, 64), (1, 128)]
