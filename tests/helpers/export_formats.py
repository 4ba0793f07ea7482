"""A writer of export formats that needs few images, and the formats that tests write."""

from dataclasses import replace
from typing import Any

import pytest

from subnet_export.deployment.environments import require_converter
from subnet_export.deployment.formats import FORMATS, missing
from subnet_export.exported_model import ExportedModel
from subnet_export.exporting.format_options import FormatOptions
from subnet_export.exporting.format_writer import FormatWriter
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import calibration_batches
from supernet.pose.datasets import build

QUICK = tuple(
    name
    for name, chosen in FORMATS.items()
    if not chosen.environment and not missing([*chosen.packages, *chosen.readers])
)
"""Formats that this environment writes; those with an environment of their own take minutes and have slow tests."""


def require_installed(name: str) -> None:
    """Skip a test if this environment cannot write or run a format."""
    if package := missing([*FORMATS[name].packages, *FORMATS[name].readers]):
        pytest.skip(f"{package} is not installed")


def require_environment(name: str) -> None:
    """Skip a test if the environment that converts to a format cannot be made here."""
    require_installed(name)
    try:
        require_converter(FORMATS[name], f"format {name}")
    except UserError as error:
        pytest.skip(str(error))


def format_writer(model: ExportedModel, *names: str, **options: Any) -> FormatWriter:
    """Return a writer of the formats ``names`` that compares AP on two images and calibrates on six."""
    train_set, test_set = build(model.dataset, "train"), build(model.dataset, "test")
    chosen = FormatOptions([FORMATS[name] for name in names], num_check_images=2)
    return FormatWriter(
        replace(chosen, **options), test_set, lambda: calibration_batches(train_set, 64, 6, 64), batch_size=2
    )
