"""Measure where the processor time of one candidate of a search goes. Prints JSON.

Run as ``python -m scripts.benchmarks.candidate --workload photos --photos FOLDER [--candidates 2] [--images 100]``; the
workloads are those of ``scripts.benchmarks.search``.

Everything runs in one process on one thread, after one arch of each resolution has been scored. Times are processor
time, which hardly depends on other programs, except through the memory and the caches that they share.

``arithmetic_s`` is the time of the multiply-adds alone, at the rate at which this thread multiplies large matrices:
no float32 code that computes every convolution of a candidate is faster, whatever it saves elsewhere.
"""

import argparse
import contextlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from supernet.cli.console import STDERR, run_command
from supernet.compute.cpu_tuning import prefer_throughput

prefer_throughput()  # before PyTorch is imported, as a search does

import cv2  # noqa: E402
import torch  # noqa: E402

from scripts.benchmarks.search import WORKLOADS, candidates, scorer_and_images  # noqa: E402
from scripts.benchmarks.timing import load_averages, print_report  # noqa: E402
from search.cost import macs  # noqa: E402
from supernet.arch import Arch  # noqa: E402
from supernet.evaluation import subnet_scorer  # noqa: E402
from supernet.evaluation.subnet_scorer import SubnetScorer  # noqa: E402
from supernet.pose import evaluation, grouping, inference  # noqa: E402
from supernet.pose.data.pose_dataset import PoseDataset  # noqa: E402
from supernet.pose.geometry import resize_at_scales  # noqa: E402
from supernet.pose.metrics.average_precision import KeypointEvaluator  # noqa: E402
from supernet.weight_sharing import SuperNet  # noqa: E402

PLACES: dict[str, tuple[tuple[Any, str], ...]] = {
    "extracting": ((SuperNet, "extract"),),
    "calibrating": ((subnet_scorer, "calibrate"),),
    "folding": ((subnet_scorer, "folded"),),
    "resizing images": ((inference.PoseEstimator, "resized"),),
    "network": ((inference, "run"),),
    "resizing maps": ((inference, "combined"),),
    "peaks": ((grouping, "peaks_of_maps"),),
    "matching": ((grouping, "match_by_tag"),),
    "refinement": ((grouping, "complete"),),
    "AP": ((evaluation, "evaluator_of"), (evaluation, "as_results"), (KeypointEvaluator, "score")),
}
"""Functions whose time is that of a part of a candidate; what no part holds is "other"."""


class Clock:
    """Adds up the processor time of functions by part; that of a function within another is not counted twice."""

    def __init__(self) -> None:
        self.seconds = defaultdict[str, float](float)

    @contextlib.contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the processor time of a block to ``part``."""
        before, inner = time.process_time(), sum(self.seconds.values())
        yield
        self.seconds[part] += time.process_time() - before - (sum(self.seconds.values()) - inner)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` with its time added to ``part``, also the time until each result of a generator."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self.measure(part):
                result = function(*arguments, **named)
            return self._stepped(part, result) if isinstance(result, Iterator) else result

        return call

    def _stepped(self, part: str, results: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self.measure(part):
                try:
                    result = next(results)
                except StopIteration:
                    return
            yield result


def parts_of(scorer: Any, arch: Any, images: Any) -> dict[str, float]:
    """Processor seconds of each part of a candidate."""
    clock = Clock()
    with contextlib.ExitStack() as patches:
        for part, places in PLACES.items():
            for owner, name in places:
                patches.enter_context(mock.patch.object(owner, name, clock.timed(part, getattr(owner, name))))
        with clock.measure("other"):
            scorer.score(arch, images)
    return dict(clock.seconds)


def seconds_per_mac() -> float:
    """The time of a multiply-add in a product of large matrices, of the fastest of several."""
    size, seconds = 1024, []
    first, second = torch.rand(2, size, size)
    for _ in range(20):
        start = time.process_time()
        first @ second
        seconds.append(time.process_time() - start)
    return min(seconds) / size**3


def candidate_macs(scorer: SubnetScorer, arch: Arch, images: PoseDataset) -> int:
    """Multiply-adds of calibrating ``arch`` and of running it on ``images`` at their own sizes."""
    settings = scorer.settings
    sizes = [batch[:, 0].numel() for batch in scorer.calibration_images(arch.resolution)]
    copies = 1 + settings.flip_test
    for index in range(len(images)):
        resized, _ = resize_at_scales(images[index].image, arch.resolution, settings.size_divisor, settings.scales)
        sizes += [copies * copy.shape[0] * copy.shape[1] for copy in resized]
    return macs(arch, images.keypoints.num) * sum(sizes) // arch.resolution**2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--workload", choices=WORKLOADS, default="drawn", help="what to score")
    parser.add_argument("--candidates", type=int, default=2, help="archs, of which medians are printed")
    parser.add_argument("--images", type=int, default=100, help="validation images per arch")
    parser.add_argument("--calibration-images", type=int, default=64, help="training images per arch")
    parser.add_argument("--drawn-supernet", default="runs/train/latest", help="run of supernet.train, space nano")
    parser.add_argument("--photos", help="folder of coco_people")
    parser.add_argument("--output", help="also write the JSON to this file")
    options = parser.parse_args()
    if options.workload == "photos" and options.photos is None:
        parser.error("the workload photos needs --photos, the folder of coco_people")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    scorer, images = scorer_and_images(options.workload, options)
    archs = candidates(options.workload, scorer.supernet.space, options.candidates)
    for arch in {arch.resolution: arch for arch in archs}.values():
        scorer.score(arch, images)
    rows = [parts_of(scorer, arch, images) for arch in archs]
    medians = {part: round(statistics.median(row.get(part, 0.0) for row in rows), 3) for part in [*PLACES, "other"]}
    workload = {name: value for name, value in vars(options).items() if name != "output"}
    workload |= {"load": load_averages()}
    figures = {"seconds": medians, "sum": round(sum(medians.values()), 3)}
    figures |= {"macs": [macs(arch, scorer.evaluation_set.keypoints.num) for arch in archs]}
    arithmetic = seconds_per_mac() * statistics.median(candidate_macs(scorer, arch, images) for arch in archs)
    figures |= {"arithmetic_s": round(arithmetic, 3)}
    print_report(workload, figures, options.output)


if __name__ == "__main__":
    run_command(main, STDERR)
