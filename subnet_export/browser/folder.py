"""Writes the folder of a page that finds people in the browser: the page, the network and the runtime."""

import json
import logging
from pathlib import Path
from typing import Any

from subnet_export.browser.onnxruntime_web import ORIGIN, PACKAGE, PageRuntime
from supernet.io import files

PAGE = Path(__file__).parent / "page"
"""The files that are the same in every folder, except ``index.html``."""
INDEX = "index.html"
FOLDER = "web"
"""Name of the folder, inside that of an exported model."""
NETWORK, SETTINGS = "network.onnx", "settings.json"
_ORIGIN_MARK = "ORIGIN"

logger = logging.getLogger(__name__)


def with_one_pass(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a network's decoding as the page uses it: each image once, as it is, at one scale."""
    inference, once = settings["inference"], {"flip_test": False, "scales": [1.0]}
    if changed := [name for name, value in once.items() if inference[name] != value]:
        logger.warning(
            "the page of format web runs the network once per image, without %s of the model's settings; it finds "
            "people a little worse than the model as it was measured",
            " and ".join(changed),
        )
    return {**settings, "inference": {**inference, **once}}


def write_page(folder: Path, network: bytes, settings: dict[str, Any], runtime: PageRuntime) -> None:
    """Write a page into the new folder ``folder``.

    Args:
        folder: Must not exist; its parent must.
        network: An ONNX file.
        settings: What the page must know of the network, as ``settings.json``; the runtime is added.
        runtime: Where the page gets ONNX Runtime from.
    """
    folder.mkdir()
    for path in sorted(PAGE.iterdir()):
        content = path.read_bytes()
        if path.name == INDEX:
            # Without a public address, the browser lets the page connect to its own folder only.
            origin = b"" if runtime.package else f" {ORIGIN}".encode()
            content = content.replace(b" " + _ORIGIN_MARK.encode(), origin)
        files.write_bytes(folder / path.name, content)
    files.write_bytes(folder / NETWORK, network)
    source = {"version": runtime.version, "address": runtime.address, "integrity": runtime.integrity}
    files.write_text(folder / SETTINGS, json.dumps({**with_one_pass(settings), "runtime": source}, indent=1) + "\n")
    runtime.copy_to(folder)
    place = f"a copy of {runtime.package}" if runtime.package else ORIGIN
    logger.info("the page of format web gets %s %s from %s", PACKAGE, runtime.version, place)
