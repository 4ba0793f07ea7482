"""Start and end of a run of this package: its folder and device; ``summary.json``, ``latest`` and what is printed."""

import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import torch
from rich.text import Text

from subnet_export.decoding.pose import RUNTIMES
from subnet_export.deployment.formats import FORMATS
from subnet_export.exported_model import ExportedModel
from subnet_export.model import CARD_FILE, PROGRAM
from subnet_export.publish.model_card import describe_difference
from supernet.checkpoints.exported_network import DESCRIPTION_FILE, WEIGHTS_FILE
from supernet.cli.arguments import free_folder
from supernet.cli.console import CONSOLE
from supernet.cli.runs import discard_empty, point_latest, write_summary
from supernet.compute.device import pick_device
from supernet.evaluation.metrics_table import format_metric
from supernet.io import files, locks
from supernet.io.new_folder import check_new


def prepare(options: argparse.Namespace) -> torch.device:
    """Prepare the process for a command, as :func:`prepare_process` does."""
    if options.is_default_folder and options.folder.exists():  # another run made it since the command line was read
        options.folder = free_folder(options.folder.parent)
    return prepare_process(options.folder, options.device, options.threads)


def prepare_process(folder: Path, device: str = "auto", threads: int | None = None) -> torch.device:
    """Check the output folder before any work, set the number of threads (None keeps it) and return the device.

    Raises:
        UserError: The folder for the results exists, or the device does not exist.
    """
    check_new(folder)
    cv2.setNumThreads(0)
    torch.backends.cudnn.deterministic = True  # a model read back must measure the same
    if threads is not None:
        torch.set_num_threads(threads)
    return pick_device(device)


def write_model_summary(folder: Path, model: ExportedModel, figures: dict[str, Any], is_default_folder: bool) -> None:
    """Write ``summary.json`` with the model's figures and further ones; a default folder becomes ``latest``."""
    summary = {
        "model": str(folder),
        "arch": model.arch.to_dict(),
        "costs": model.costs,
        "measurement": asdict(model.measurement),
        "calibration": asdict(model.calibration),
        **figures,
    }
    write_summary(folder, summary)
    if is_default_folder:
        point_latest(folder)


@contextmanager
def reserved_folder(options: argparse.Namespace) -> Iterator[None]:
    """Make the folder for results at once, so that no other run takes it; what stays empty goes on an error.

    A default folder that another run made in the same second gets a number.

    Raises:
        UserError: A folder that the user named exists by now.
    """
    first: Path = options.folder
    made = [folder for folder in first.parents if not folder.exists()]
    number = 1
    while True:
        try:
            options.folder.mkdir(parents=True)
            break
        except FileExistsError:
            if not options.is_default_folder:
                check_new(options.folder)
                raise
            number += 1
            options.folder = first.with_name(f"{first.name}_{number}")
        except OSError as error:
            raise files.refused(options.folder, error) from error
    try:
        yield
    except BaseException:
        for folder in (options.folder, *made):
            discard_empty(folder)
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from the run that makes ``folder`` at its end; nothing is left of the lock afterwards.

    Raises:
        UserError: ``folder`` exists, another process has the run, or nothing can be written there.
    """
    check_new(folder)
    path = _lock_of(folder)
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.refused(folder, error) from error
    try:
        with locks.locked(path, folder, is_temporary=True):
            yield
    finally:
        for parent in made:
            discard_empty(parent)


def unlocked_folder(folder: Path, is_default: bool) -> Path:
    """Return ``folder``; a default folder with a number if another run that makes it began in the same second.

    Locks that killed runs left beside a default folder are removed.
    """
    if is_default:
        locks.sweep(folder.parent)
    first, number = folder, 1
    while is_default and _lock_of(folder).exists():
        number += 1
        folder = first.with_name(f"{first.name}_{number}")
    return folder


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def finish(options: argparse.Namespace, model: ExportedModel, title: str, figures: dict[str, Any]) -> None:
    """Write the summary of the model in ``options.folder``, point ``latest`` to it and print it.

    Args:
        options: Options of the command line (:meth:`subnet_export.arguments.ModelCommandLine.parse`).
        model: The model that was written.
        title: Title of the printed summary.
        figures: Further entries of the summary; those that are not mappings are printed too.
    """
    folder, measurement = options.folder, model.measurement
    write_model_summary(folder, model, figures, options.is_default_folder)
    metrics = ", ".join(f"{name} {format_metric(value)}" for name, value in measurement.metrics.items())
    calibration = model.calibration
    rows = {
        "arch": model.arch.describe(),
        "costs": f"{model.costs['params']:,} parameters, {model.costs['macs'] / 1e6:,.1f} M MACs",
        f"{measurement.split} split": f"{metrics} on {measurement.num_images} images" if metrics else "not measured",
        "calibrated on": f"{calibration.num_images} images of {calibration.split} at {calibration.resolution} px",
        **{name.replace("_", " "): str(value) for name, value in figures.items() if not isinstance(value, dict)},
        "weights": str(folder / WEIGHTS_FILE),
    }
    for name, record in model.formats.items():
        agreement = "not run here, only its description was checked"
        if record.error is not None:
            agreement = f"{record.gives} within {record.error:.1e}, AP {describe_difference(record)}"
        rows[name] = f"{folder / FORMATS[name].files[0]} ({agreement})"
    rows |= {
        "description": str(folder / DESCRIPTION_FILE),
        "model card": str(folder / CARD_FILE),
        "summary": str(folder / "summary.json"),
    }
    if RUNTIMES.keys() & {FORMATS[name].files[0] for name in model.formats}:
        rows["without PyTorch"] = f"python {shlex.quote(str(folder / PROGRAM))} IMAGE"
    # Lines rather than a table, whose cells would wrap inside a long path.
    CONSOLE.print(title, style="italic", highlight=False)
    width = max(map(len, rows))
    for name, value in rows.items():
        CONSOLE.print(Text.assemble((name.ljust(width), "bold"), f"  {value}"), soft_wrap=True)
