"""Converts an ONNX file to an MNN file: ``python to_mnn.py SOURCE TARGET``.

It calls MNN's converter itself. The command ``mnnconvert`` around it installs a package without asking and sends a
report of each conversion to a server.
"""

import sys

import MNN  # noqa: F401  the converter needs what it loads
from _tools import mnnconvert


def main(source: str, target: str) -> None:
    """Convert ``source``."""
    mnnconvert(["", "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "litepose"])


if __name__ == "__main__":
    main(*sys.argv[1:])
