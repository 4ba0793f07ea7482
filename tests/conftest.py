"""Fixtures and options shared by all tests."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

# Workers are given a width, which what is imported in them, by other conftests first, would keep whatever a test sets.
os.environ.pop("COLUMNS", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data",
        default=os.environ.get("POSE_DATA"),
        help="folder with real images: coco_mini/ in COCO's layout (default: the environment variable POSE_DATA)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # One thread, also in workers and in what tests start: equal bits on every machine, and no fight over cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # this process only hands tests to workers and needs no torch
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    import torch

    absent = {}
    if not config.getoption("--data"):
        absent["data"] = "no real images: name their folder with --data or POSE_DATA"
    if not torch.cuda.is_available():
        absent["gpu"] = "no CUDA device"
    for item in items:
        for name, reason in absent.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def drawings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Charts are drawn only in tests marked ``drawings``, which look at them."""
    context: AbstractContextManager[None] = nullcontext()
    if "matplotlib.figure" in sys.modules and not request.node.get_closest_marker("drawings"):
        from tests.helpers.quick_drawings import quick_drawings

        context = quick_drawings()
    with context:
        yield


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference figures."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def data_folder(pytestconfig: pytest.Config) -> Path:
    """Folder of real images; for tests marked ``data``, which skip where there is none."""
    return Path(pytestconfig.getoption("--data"))
