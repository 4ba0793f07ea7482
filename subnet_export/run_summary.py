"""How a command of this package begins, and what it ends with: ``summary.json``, the ``latest`` link and a table."""

import argparse
from dataclasses import asdict
from typing import Any

import cv2
import torch
from rich.table import Table

from subnet_export.deployment.formats import FORMATS
from subnet_export.exported_model import ExportedModel
from subnet_export.model import CARD_FILE
from supernet.checkpoints.exported_network import DESCRIPTION_FILE, WEIGHTS_FILE
from supernet.cli.console import CONSOLE
from supernet.cli.runs import point_latest, write_summary
from supernet.compute.device import pick_device
from supernet.io.new_folder import check_new


def prepare(options: argparse.Namespace) -> torch.device:
    """Check what can be checked before any work, set the number of threads and return the device.

    Raises:
        UserError: The folder for the results exists, or the device does not.
    """
    check_new(options.folder)
    cv2.setNumThreads(0)
    torch.backends.cudnn.deterministic = True  # a model read back must measure the same
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return pick_device(options.device)


def finish(options: argparse.Namespace, model: ExportedModel, title: str, figures: dict[str, Any]) -> None:
    """Write the summary of the model in ``options.folder``, point ``latest`` to it and print a table.

    Args:
        options: Of the command line (:meth:`subnet_export.arguments.CommandLine.parse`).
        model: What was written.
        title: Of the table.
        figures: What else the summary holds; entries that are not mappings are shown in the table too.
    """
    folder, measured = options.folder, model.measurement
    summary = {
        "model": str(folder),
        "arch": model.arch.to_dict(),
        "costs": model.costs,
        "measurement": asdict(measured),
        "calibration": asdict(model.calibration),
        **figures,
    }
    write_summary(folder, summary)
    if options.is_default_folder:
        point_latest(folder)
    table = Table(title=title, show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("arch", model.arch.describe())
    table.add_row("costs", f"{model.costs['params']:,} parameters, {model.costs['macs'] / 1e6:,.1f} M MACs")
    metrics = ", ".join(f"{name} {value:.3f}" for name, value in measured.metrics.items())
    table.add_row(f"{measured.split} split", f"{metrics} on {measured.num_images} images")
    calibration = model.calibration
    table.add_row(
        "calibrated on", f"{calibration.num_images} images of {calibration.split} at {calibration.resolution} px"
    )
    for name, value in figures.items():
        if not isinstance(value, dict):
            table.add_row(name.replace("_", " "), str(value))
    table.add_row("weights", str(folder / WEIGHTS_FILE))
    for name, record in model.formats.items():
        agreement = f"maps within {record.error:.1e}, AP {record.AP - record.AP_network:+.4f} on {record.num_images}"
        table.add_row(name, f"{folder / FORMATS[name].files[0]} ({agreement} images)")
    table.add_row("description", str(folder / DESCRIPTION_FILE))
    table.add_row("model card", str(folder / CARD_FILE))
    table.add_row("summary", str(folder / "summary.json"))
    CONSOLE.print(table)
