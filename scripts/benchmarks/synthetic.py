"""How fast one core draws built-in people.

Prints one JSON object; run as ``python -m scripts.benchmarks.synthetic``.
"""

import argparse
import json
import time

import cv2

from scripts.benchmarks.timing import spread
from supernet.compute.machine import machine, versions
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople


def _milliseconds(people: SyntheticPeople, *, images: bool) -> float:
    """Processor time per image of one pass over ``people``; without ``images`` the annotations alone."""
    start = time.process_time()
    if images:
        for index in range(len(people)):
            people[index]
    else:
        people.ground_truth()
    return 1e3 * (time.process_time() - start) / len(people)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-images", type=int, default=200, help="images a repeat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--size", type=int, default=192, help="width and height in pixels")
    options = parser.parse_args()

    cv2.setNumThreads(1)
    people = SyntheticPeople(COCO, options.num_images, seed=0, width=options.size, height=options.size)
    people[0]  # Draws the textures, which are kept.
    image_ms = [_milliseconds(people, images=True) for _ in range(options.repeats)]
    annotation_ms = [_milliseconds(people, images=False) for _ in range(options.repeats)]
    report = {
        "machine": machine(),
        "versions": versions(),
        "workload": {
            "num_images": options.num_images,
            "size": options.size,
            "keypoints": COCO.name,
            "repeats": options.repeats,
            "threads": 1,
            "clock": "process time",
        },
        "image_ms": spread(image_ms),
        "annotation_ms": spread(annotation_ms),
        "images_per_second": spread([1e3 / value for value in image_ms]),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
