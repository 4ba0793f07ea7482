"""ONNX Runtime for browsers: its version and checksums, and where a page gets it from.

A page takes it from its own folder, into which it is copied from the npm package ``onnxruntime-web``, or from a public
address. Either way the page compares every file with a checksum before it runs it.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from supernet.errors import UserError
from supernet.io import files

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
ORIGIN = "https://cdn.jsdelivr.net"
ADDRESS = f"{ORIGIN}/npm/{PACKAGE}@{VERSION}/dist/"
"""Public address of the files of ``VERSION``."""
INTEGRITY = {
    "ort.wasm.bundle.min.mjs": "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
    "ort.webgpu.bundle.min.mjs": "sha384-1ntMeyj+z5diX6vBR5h+zlJBPc4iNvhCxE6nlammh8daBYcLBZkzrwDkuJjhwI+f",
    "ort-wasm-simd-threaded.asyncify.wasm": "sha384-EPVDLTxuO663dkZO/pcKJF6vOyyfq/5z9FY1oksN0UWFX2ABH4wDDZQHeNoUleWR",
}
"""Checksums of the files of ``VERSION`` that a page loads, as in HTML's ``integrity``: WASM alone, and with WebGPU."""
COPY_FOLDER = "onnxruntime-web"
"""Folder of the copy, inside the folder of the page."""


@dataclass(frozen=True)
class PageRuntime:
    """Where a page gets ONNX Runtime from.

    Attributes:
        package: Folder of the npm package that is copied; None for the public address.
        version: Version of the package.
        integrity: Checksum of each file, as in HTML's ``integrity``.
    """

    package: Path | None
    version: str
    integrity: dict[str, str]

    @property
    def address(self) -> str:
        """Address of the files, for the page: of a folder beside it, or the public one."""
        return f"{COPY_FOLDER}/" if self.package else ADDRESS

    def copy_to(self, folder: Path) -> None:
        """Copy the files, if they come from a package, to where the page in ``folder`` looks for them."""
        if self.package:
            (folder / COPY_FOLDER).mkdir()
            for name in self.integrity:
                files.write_bytes(folder / COPY_FOLDER / name, _content(self.package, name))


def page_runtime(package: Path | None = None) -> PageRuntime:
    """Return the runtime for a page: of an npm package, or else the public address.

    Args:
        package: Folder of the package. By default it is looked for where npm installs it, in ``node_modules`` of the
            current folder.

    Raises:
        UserError: ``package`` is not a folder of the package, or lacks a file.
    """
    installed = Path("node_modules") / PACKAGE
    if package is None and not installed.is_dir():
        return PageRuntime(None, VERSION, INTEGRITY)
    package = package or installed
    about = files.read_json(package / "package.json", f"description of the npm package {PACKAGE}")
    if not isinstance(about, dict) or about.get("name") != PACKAGE:
        raise UserError(f"{package} is not the npm package {PACKAGE}; give the folder node_modules/{PACKAGE}")
    version = str(about.get("version"))
    digests = {name: _integrity(_content(package, name)) for name in INTEGRITY}
    if version == VERSION and digests != INTEGRITY:
        raise UserError(f"{package} differs from the published {PACKAGE} {VERSION}; install it again with npm")
    return PageRuntime(package, version, digests)


def _content(package: Path, name: str) -> bytes:
    remedy = f"run npm install {PACKAGE}@{VERSION} and give its folder"
    return files.read_bytes(package / "dist" / name, f"file of the npm package {PACKAGE}", remedy=remedy)


def _integrity(content: bytes) -> str:
    return f"sha384-{base64.b64encode(hashlib.sha384(content).digest()).decode()}"
