"""Inference on all cores of one machine: processes that each load images, run the network and group its maps.

A network for edge devices is small: on several threads its layers wait for each other, and grouping has none. Processes
need no exchange but the people at the end. They are forked, so that each starts with the network, the data set and the
images that are in memory already, at no cost; where that is not possible, the images run one after the other.
"""

import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from supernet.errors import UserError
from supernet.evaluation.device_inference import predict_on_device
from supernet.evaluation.image_blocks import image_blocks
from supernet.pose.data.cached import load_into_memory
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import Subset
from supernet.pose.inference import PoseEstimator, PosePredictions, Progress
from supernet.pose.metrics.stage_times import StageTimes

Block = tuple[int, ...]
"""Indices of images that one process runs together."""


def predict_in_workers(
    num_workers: int,
    estimator: PoseEstimator,
    dataset: PoseDataset,
    num_images: int | None = None,
    progress: Progress | None = None,
) -> list[PosePredictions]:
    """Return the people of each image of a data set, in its order.

    Args:
        num_workers: Processes; 1 runs the images in this one, as do networks on a GPU or of another runtime.
        estimator: See :class:`PoseEstimator`. Its ``times`` become the sums over all processes.
        dataset: Where the images come from.
        num_images: Only this many images from the start; all by default.
        progress: Called with (images done, images in all).

    Raises:
        UserError: As ``PoseEstimator.stream``, or a process was killed.
    """
    total = len(dataset) if num_images is None else min(num_images, len(dataset))
    device = torch.device(estimator.device).type
    if device == "cuda" and type(estimator) is PoseEstimator:  # others read the maps in their own way
        return predict_on_device(num_workers, estimator, dataset, total, progress)
    if not isinstance(estimator.network, torch.nn.Module) or device != "cpu":
        return estimator.on_dataset(dataset, total, progress)
    blocks = image_blocks(estimator, dataset, total)
    num_workers = min(num_workers, len(blocks))
    if num_workers > 1 and _can_fork():
        with estimator.times.measure("loading"):
            load_into_memory(Subset(dataset, range(total)))
        results = _from_workers(num_workers, estimator, dataset, blocks)
    else:
        results = ((number, _people_of(estimator, dataset, block)) for number, block in enumerate(blocks))
    predictions: dict[int, PosePredictions] = {}
    for number, people in results:
        predictions |= zip(blocks[number], people, strict=True)
        if progress is not None:
            progress(len(predictions), total)
    return [predictions[index] for index in range(total)]


def _can_fork() -> bool:
    # On other systems, libraries do not survive a fork.
    return sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()


def _people_of(estimator: PoseEstimator, dataset: PoseDataset, block: Block) -> list[PosePredictions]:
    """The people of the images of one block."""
    return estimator.on_dataset(Subset(dataset, block))


def _from_workers(
    num_workers: int, estimator: PoseEstimator, dataset: PoseDataset, blocks: Sequence[Block]
) -> Iterator[tuple[int, list[PosePredictions]]]:
    """Yield the number and the people of each block as they come."""
    context = multiprocessing.get_context("fork")
    next_block = context.Value("q", 0)
    workers: dict[Connection, BaseProcess] = {}
    worker: BaseProcess
    try:
        for _ in range(num_workers):
            results, sender = context.Pipe(duplex=False)
            arguments = (estimator, dataset, blocks, next_block, sender)
            worker = context.Process(target=_work, args=arguments, daemon=True)
            with warnings.catch_warnings():
                # Python warns of forks beside threads. The child uses none: it sets their number to 1 at once.
                warnings.simplefilter("ignore", DeprecationWarning)
                worker.start()
            sender.close()
            workers[results] = worker
        waiting = set(workers)
        while waiting:
            for ready in wait(list(waiting)):
                assert isinstance(ready, Connection)
                results = ready
                try:
                    message = results.recv()
                except EOFError:
                    raise UserError(_killed(workers[results])) from None
                if isinstance(message, StageTimes):
                    estimator.times.add(message)
                    waiting.remove(results)
                elif isinstance(message, UserError):
                    raise message
                elif isinstance(message, str):
                    raise RuntimeError(f"a process that evaluates images failed:\n{message}")
                else:
                    yield message
    finally:
        for results, worker in workers.items():
            results.close()
            worker.terminate()
            worker.join()
            worker.close()


def _killed(worker: BaseProcess) -> str:
    worker.join()
    return (
        f"a process that evaluates images was killed (exit status {worker.exitcode}), perhaps because memory ran out; "
        "use fewer with threads=1"
    )


def _work(
    estimator: PoseEstimator, dataset: PoseDataset, blocks: Sequence[Block], next_block: Any, results: Connection
) -> None:
    """Run blocks until none is left, and send their people, then the times of the stages; or else what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = os.getppid()
    torch.set_num_threads(1)
    estimator = replace(estimator, times=StageTimes())
    try:
        while os.getppid() == parent:
            with next_block.get_lock():
                number = next_block.value
                next_block.value += 1
            if number >= len(blocks):
                break
            results.send((number, _people_of(estimator, dataset, blocks[number])))
        results.send(estimator.times)
    except UserError as error:
        results.send(error)
    except BrokenPipeError:
        pass  # the parent has stopped
    except Exception as error:
        results.send(traceback.format_exc())
        raise SystemExit(1) from error  # ends the process without a second traceback
