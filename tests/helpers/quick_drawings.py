"""Charts as blank images: matplotlib takes longer for one than a short training of a tiny network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

PNG = cv2.imencode(".png", np.full((2, 2, 3), 255, np.uint8))[1].tobytes()
SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


def save_blank(_: Figure, target: str | Path | TextIO, **__: Any) -> None:
    """Take the place of ``Figure.savefig``: a text is SVG, a file is PNG."""
    if isinstance(target, str | Path):
        Path(target).write_bytes(PNG)
    else:
        target.write(SVG)


@contextmanager
def quick_drawings() -> Iterator[None]:
    """Save every chart as a blank image."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save_blank)
        yield
