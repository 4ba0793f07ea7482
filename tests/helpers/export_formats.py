"""A writer of export formats that needs few images."""

from dataclasses import replace
from typing import Any

from subnet_export.deployment.formats import FORMATS
from subnet_export.exported_model import ExportedModel
from subnet_export.format_writer import FormatOptions, FormatWriter
from supernet.evaluation.subnet_scorer import calibration_batches
from supernet.pose.datasets import build


def format_writer(model: ExportedModel, *names: str, **options: Any) -> FormatWriter:
    """Return a writer of the formats ``names`` that compares AP on two images and calibrates on six."""
    train_set, test_set = build(model.dataset, "train"), build(model.dataset, "test")
    chosen = FormatOptions([FORMATS[name] for name in names], num_check_images=2)
    return FormatWriter(
        replace(chosen, **options), test_set, lambda: calibration_batches(train_set, 64, 6, 64), batch_size=2
    )
