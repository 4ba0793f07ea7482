"""Serves the folder of a page to browsers on this machine, with the headers that WASM threads need."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from subnet_export.browser.folder import FOLDER, INDEX, NETWORK, SETTINGS
from supernet.errors import UserError

ADDRESS = "127.0.0.1"
"""Only programs on this machine can connect; browsers allow the camera there without a certificate."""
HEADERS = {
    # Both together isolate the page from other pages, without which browsers allow WASM one thread only.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
TYPES = {
    "": "application/octet-stream",
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
}
"""Content types by suffix. Browsers insist on them, and Python's own depend on the machine."""


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = TYPES
    protocol_version = "HTTP/1.1"

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        """Answer that there is nothing, instead of listing the files of a folder."""
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the terminal shows the address."""


def page_folder(folder: Path) -> Path:
    """Return the folder of the page in an exported model, or ``folder`` itself if it is one.

    Raises:
        UserError: There is no page.
    """
    for candidate in (folder, folder / FOLDER):
        if all((candidate / name).is_file() for name in (INDEX, NETWORK, SETTINGS)):
            return candidate
    raise UserError(
        f"there is no page in {folder}; run python -m subnet_export with --format web, or give the folder of a model "
        "that was exported so"
    )


def page_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of the page in ``folder`` that listens already; run its ``serve_forever``.

    Args:
        folder: Of :func:`page_folder`.
        port: Port on this machine; 0 for any free one.

    Raises:
        UserError: The port is in use, or cannot be used.
    """
    try:
        return ThreadingHTTPServer((ADDRESS, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise UserError(
            f"port {port} cannot be used: {error.strerror or error}; choose another with --port, or 0 for any free one"
        ) from error


def address_of(server: ThreadingHTTPServer) -> str:
    """Return the address of the page that ``server`` serves, for a browser."""
    return f"http://{ADDRESS}:{server.server_address[1]}/"
