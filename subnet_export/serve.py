"""Open the page of a model exported with ``--format web``: ``python -m subnet_export.serve`` (options: ``--help``)."""

import argparse
from pathlib import Path

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from supernet.cli.arguments import CommandLine, whole_number

    parser = CommandLine(
        "python -m subnet_export.serve",
        description="Open the page of a model that was exported with --format web in the browser. The page finds "
        "people in pictures and in the camera's images; only this machine can open it. Ctrl-C ends the command.",
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        default=Path("runs/export/latest"),
        help="a model exported with --format web, or its folder web (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=whole_number(0),
        default=8000,
        help="port on this machine; 0: any free one (default: %(default)s)",
    )
    parser.add_argument("--no-open", action="store_true", help="print the address, but do not open the browser")
    parser.describe(("", "runs/export/latest --port 8001 --no-open"))
    options = parser.parse_args()
    if options.port > 65535:
        parser.error(f"argument --port: {options.port} must be at most 65535")

    from supernet.cli.console import run_command

    run_command(lambda: _serve(options))


def _serve(options: argparse.Namespace) -> None:
    import os
    import sys
    import webbrowser

    from subnet_export.browser.server import address_of, page_folder, page_server
    from supernet.cli.console import CONSOLE

    folder = page_folder(options.folder)
    with page_server(folder, options.port) as server:
        address = address_of(server)
        CONSOLE.print(f"{folder} is at {address} (Ctrl-C ends this)", soft_wrap=True)
        sys.stdout.flush()
        # Elsewhere on Linux, a browser for terminals would take over this one.
        has_screen = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if not options.no_open and has_screen:
            webbrowser.open(address)
        server.serve_forever()


if __name__ == "__main__":
    main()
