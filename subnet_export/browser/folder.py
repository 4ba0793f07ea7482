"""Writes the folder of a page that finds people in the browser: the page, the network and the runtime."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subnet_export.browser.onnxruntime_web import ORIGIN, PageRuntime
from supernet.errors import UserError
from supernet.io import files

if TYPE_CHECKING:
    from supernet.pose.inference import InferenceSettings

PAGE = Path(__file__).parent / "page"
"""The files that are the same in every folder, except ``index.html``."""
INDEX = "index.html"
FOLDER = "web"
"""Name of the folder, inside that of an exported model."""
NETWORK, SETTINGS = "model.onnx", "settings.json"
_ORIGIN_MARK = "ORIGIN"


def check_one_pass(settings: "InferenceSettings") -> None:
    """Raise UserError for settings with which a person's keypoints depend on several passes of the network."""
    for name, is_set in (("flip_test", settings.flip_test), ("scales", settings.scales != (1.0,))):
        if is_set:
            raise UserError(
                f"format web runs the network once per image, but this model is used with {name} "
                f"{getattr(settings, name)!r}; leave out format web, or export from a supernet evaluated without {name}"
            )


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
    files.write_text(folder / SETTINGS, json.dumps({**settings, "runtime": source}, indent=1) + "\n")
    runtime.copy_to(folder)
