"""Batches for training: what a step sees depends on (seed, step) only, so that a resumed run repeats it."""

import traceback
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from supernet.errors import UserError
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.skip_broken import skipping
from supernet.pose.training.augmentation import Augmentation, Batch, TrainingImages, collate
from supernet.pose.training.objective import to_device

_RESOLUTION, _ORDER = 0, 1


def step_resolution(resolutions: Sequence[int], seed: int, step: int) -> int:
    """Return the resolution of training step ``step``, uniform over ``resolutions``."""
    return resolutions[int(np.random.default_rng((_RESOLUTION, seed, step)).integers(len(resolutions)))]


class StepSampler(Sampler[list[tuple[int, int, int]]]):
    """Yields for each step the keys (index, resolution, seed) of its samples; every epoch is a fresh permutation.

    Args:
        num_images: Size of the data set.
        resolutions: The resolution of each step from ``start`` on.
        batch_size: Samples per step.
        seed: Seed of order and augmentation.
        start: First step.
        part: (i, n) yields of each step's samples only the i-th of n equal parts.
    """

    def __init__(
        self,
        num_images: int,
        resolutions: Sequence[int],
        batch_size: int,
        seed: int,
        start: int,
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
                    order = np.random.default_rng((_ORDER, self.seed, epoch)).permutation(self.num_images)
                keys.append((int(order[sample % self.num_images]), resolution, (self.seed << 40) + sample))
            yield keys[self._part]


def training_loader(
    dataset: PoseDataset,
    resolutions: Sequence[int],
    batch_size: int,
    seed: int,
    augmentation: Augmentation,
    num_workers: int,
    start: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield one :class:`Batch` per entry of ``resolutions``, for steps ``start``, ``start`` + 1, ...

    Args:
        dataset: Training images.
        resolutions: Input resolution of each step.
        batch_size: Samples per step.
        seed: Seed of order and augmentation.
        augmentation: How images are varied.
        num_workers: Worker processes; 0 loads in this one.
        start: Number of the first step.
        part: (i, n) gives of each batch only the i-th of n equal parts.

    Raises:
        UserError: While iterating: an image cannot be used, told in one sentence even if a worker met it, or a worker
            has died.
    """
    loader: Iterable[Batch] = DataLoader(
        TrainingImages(dataset, augmentation),
        batch_sampler=StepSampler(len(dataset), resolutions, batch_size, seed, start, part),
        num_workers=num_workers,
        collate_fn=collate,
        worker_init_fn=_single_threaded,
        prefetch_factor=4 if num_workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    skips = skipping(dataset)
    try:
        for batch in loader:
            if skips is not None:
                skips.tell()
            yield batch
    except UserError as error:
        lines = str(error.args[0]).splitlines()
        if len(lines) == 1:
            raise
        # Frames that hold on to the loader would keep its workers, which then take 5 seconds each to end.
        traceback.clear_frames(error.__traceback__)
        # A worker's traceback comes along as text; what it raised is the last line.
        raise UserError(lines[-1].partition(": ")[2]) from None
    except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
        # A worker that dies while it hands a batch over may be noticed only as a connection that breaks.
        broken = num_workers and not isinstance(error, RuntimeError) and "Caught " not in str(error)
        if not broken and not str(error).startswith("DataLoader worker (pid"):
            raise
        raise UserError(
            f"a process that loads images has died ({' '.join(str(error).split())}); if memory was short, lower "
            "num_workers or image_memory_mib, then resume from the last checkpoint"
        ) from error


def _single_threaded(_: int) -> None:
    """Keep a worker process to one core: OpenCV would otherwise take all of them."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield each batch on ``device``.

    A GPU receives a batch beside its computations: the host, which runs ahead of it, sends the next batch while earlier
    steps are still being computed, and only the step that needs it waits for it.
    """
    if device.type != "cuda":
        for batch in batches:
            yield to_device(batch, device)
        return
    sending = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for batch in batches:
        with torch.cuda.stream(sending):
            sent = to_device(batch, device)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(sending)
        for tensor in (sent.images, sent.people, sent.mask):
            tensor.record_stream(computing)  # its memory is not to be given away before the step has used it
        yield sent
