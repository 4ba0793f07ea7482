"""Publishes a model or a supernet as the command line says."""

import argparse
import tempfile
from pathlib import Path

from rich.text import Text

from subnet_export.publish.front_matter import UNKNOWN, check_license
from subnet_export.publish.upload import check_repo, stage_model, stage_supernet, staged_files, upload
from supernet.checkpoints import hub
from supernet.checkpoints.exported_network import is_exported
from supernet.checkpoints.pretrained import located
from supernet.checkpoints.supernet_file import is_supernet
from supernet.cli.console import CONSOLE
from supernet.errors import UserError
from supernet.pose.data.image_decoding import read_image
from supernet.version import PROJECT


def run(options: argparse.Namespace) -> None:
    """Stage, upload and read back.

    Raises:
        UserError: An option is wrong, the source is damaged, or the hub refuses.
    """
    repo = check_repo(options.repository)
    license = None if options.license is None else check_license(options.license)
    if not options.dry_run:
        hub.require_library()
    source, name = located(options.source), f"{hub.PREFIX}{repo}"
    image = None if options.picture is None else read_image(options.picture, upright=True)
    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder)
        if is_exported(source):
            stage_model(source, staging, name, license, image)
            title = "exported model"
        elif source.exists() and is_supernet(source):
            if image is not None:
                raise UserError("--picture is for exported models: a supernet finds nobody by itself; leave it out")
            stage_supernet(source, staging, name, license or UNKNOWN)
            title = "supernet"
        else:
            raise UserError(
                f"there is no exported model or supernet in {source}; name a run of python -m subnet_export or of "
                "python -m supernet.train"
            )
        for file in staged_files(staging):
            CONSOLE.print(Text(f"{file}  {(staging / file).stat().st_size:,} bytes"), soft_wrap=True)
        if options.dry_run:
            CONSOLE.print(Text(f"{title} for {name}: nothing was uploaded (--dry-run)"), soft_wrap=True)
            return
        message = options.message or f"{title} of {PROJECT}"
        uploaded = upload(staging, repo, options.private, message)
    use = "--model" if title == "exported model" else "--supernet"
    CONSOLE.print(Text(f"published {uploaded}, read back and compared"), soft_wrap=True)
    CONSOLE.print(Text(f"use it with {use} {name}, or pinned: {use} {uploaded}"), soft_wrap=True)
