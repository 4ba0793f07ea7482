"""Measure how fast one core draws built-in people. Prints JSON.

Run as ``python -m scripts.benchmarks.synthetic``.
"""

import argparse
import time

import cv2

from scripts.benchmarks.timing import print_report, spread
from supernet.cli.console import STDERR, run_command
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople


def _milliseconds(people: SyntheticPeople, *, images: bool) -> float:
    """Processor time per image of one pass over ``people``; without ``images`` only of the annotations."""
    start = time.process_time()
    if images:
        for index in range(len(people)):
            people[index]
    else:
        people.ground_truth()
    return 1e3 * (time.process_time() - start) / len(people)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-images", type=int, default=200, help="images per repeat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--size", type=int, default=192, help="width and height in pixels")
    options = parser.parse_args()

    cv2.setNumThreads(1)
    people = SyntheticPeople(COCO, options.num_images, seed=0, width=options.size, height=options.size)
    people[0]  # draws the textures, which are cached
    image_ms = [_milliseconds(people, images=True) for _ in range(options.repeats)]
    annotation_ms = [_milliseconds(people, images=False) for _ in range(options.repeats)]
    workload = vars(options) | {"keypoints": COCO.name, "threads": 1, "clock": "process time"}
    results = {
        "image_ms": spread(image_ms),
        "annotation_ms": spread(annotation_ms),
        "images_per_second": spread([1e3 / value for value in image_ms]),
    }
    print_report(workload, results)


if __name__ == "__main__":
    run_command(main, STDERR)
