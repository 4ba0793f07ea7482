"""Batches for training: what a step sees depends on (seed, step) only, so that a resumed run repeats it."""

import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from supernet.errors import UserError
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.skip_broken import skip_broken_of
from supernet.pose.training.augmentation import Augmentation, Batch, TrainingImages, collate
from supernet.pose.training.objective import to_device
from supernet.pose.training.worker_processes import explain_dead_worker, held_stop_signals, start_worker
from supernet.random_streams import Stream


def step_resolution(resolutions: Sequence[int], seed: int, step: int) -> int:
    """Return the resolution of training step ``step``, uniform over ``resolutions``."""
    return resolutions[int(Stream.STEP_RESOLUTION.generator(seed, step).integers(len(resolutions)))]


class StepSampler(Sampler[list[tuple[int, int, int]]]):
    """Yields the keys (index, resolution, seed) of each step's samples; every epoch is a new permutation.

    Args:
        num_images: Size of the data set.
        resolutions: Input resolution of each step from ``start`` on.
        batch_size: Samples per step.
        seed: Seed of order and augmentation.
        start: Number of the first step.
        part: (i, n) yields only the i-th of n equal parts of each step's samples, for the i-th of n processes.
    """

    def __init__(
        self,
        num_images: int,
        resolutions: Sequence[int],
        batch_size: int,
        seed: int,
        start: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.num_images, self.resolutions, self.batch_size = num_images, resolutions, batch_size
        self.seed, self.start = seed, start
        index, count = part
        self._part = slice(index * batch_size // count, (index + 1) * batch_size // count)

    def __len__(self) -> int:
        return len(self.resolutions)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        epoch, order = -1, np.empty(0, np.int64)
        for i, resolution in enumerate(self.resolutions):
            keys = []
            for sample in range((self.start + i) * self.batch_size, (self.start + i + 1) * self.batch_size):
                if sample // self.num_images != epoch:
                    epoch = sample // self.num_images
                    order = Stream.IMAGE_ORDER.generator(self.seed, epoch).permutation(self.num_images)
                keys.append((int(order[sample % self.num_images]), resolution, (self.seed << 40) + sample))
            yield keys[self._part]


def training_loader(
    dataset: PoseDataset, sampler: StepSampler, augmentation: Augmentation, num_workers: int
) -> Iterator[Batch]:
    """Yield one :class:`Batch` per step of ``sampler``.

    Args:
        dataset: Training images.
        sampler: Chooses the images, resolution and random seed of each step.
        augmentation: Random variation of the images.
        num_workers: Worker processes; 0 loads in this process.

    Raises:
        UserError: While iterating: an image cannot be used (one sentence even if a worker met it), or a worker died.
    """
    loader: DataLoader[Any] = DataLoader(
        TrainingImages(dataset, augmentation),
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        worker_init_fn=start_worker,
        prefetch_factor=4 if num_workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    skip_broken = skip_broken_of(dataset)
    try:
        with explain_dead_worker(num_workers):
            for batch in _started(loader):  # no name of ours keeps its workers alive after an error
                if skip_broken is not None:
                    skip_broken.log_skipped()
                yield batch
    except UserError as error:
        lines = str(error.args[0]).splitlines()
        if len(lines) == 1:
            raise
        # Frames that refer to the loader would keep its workers alive, which then take 5 seconds each to end.
        traceback.clear_frames(error.__traceback__)
        # A worker's error arrives with its traceback as text; the error itself is the last line.
        raise UserError(lines[-1].partition(": ")[2]) from None


def _started(loader: DataLoader[Any]) -> Iterator[Batch]:
    with held_stop_signals() if loader.num_workers else nullcontext():
        batches: Iterator[Batch] = iter(loader)
        return batches


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield each batch on ``device``.

    On a GPU, copies overlap with computation: the host runs ahead and sends the next batch on a second stream while
    earlier steps are still being computed. Only the step that uses a batch waits for its copy.
    """
    if device.type != "cuda":
        for batch in batches:
            yield to_device(batch, device)
        return
    copy_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for batch in batches:
        with torch.cuda.stream(copy_stream):
            copied = to_device(batch, device)
        compute_stream = torch.cuda.current_stream(device)
        compute_stream.wait_stream(copy_stream)
        for tensor in (copied.images, copied.people, copied.mask):
            tensor.record_stream(compute_stream)  # keeps the allocator from reusing its memory before the step ends
        yield copied
