"""Reading picture files, and refusing damaged ones."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from supernet.errors import UserError


def read_picture(path: str | Path, *, upright: bool = False) -> npt.NDArray[np.uint8]:
    """The picture in a file as (H, W, 3) uint8, RGB.

    Args:
        path: A file of any kind that OpenCV reads; grey, 16-bit and transparent ones are converted.
        upright: Turn it as its camera noted. Not for annotated sets: their coordinates belong to the stored pixels.

    Raises:
        UserError: The file is missing, unreadable, no picture, or cut short.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot read picture {path}: {reason}; check the path") from error
    # Some decoders fill the rest of a cut JPEG with grey and tell nobody. Its end marker (FFD9) must follow the start
    # of its last scan (FFDA); inside a scan neither can occur.
    if content.startswith(b"\xff\xd8") and content.rfind(b"\xff\xd9") <= content.rfind(b"\xff\xda"):
        raise UserError(f"picture {path} is cut short (no end-of-image marker); fetch it again")
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:
        raise UserError(f"picture {path} cannot be decoded ({error.err}); fetch it again or leave it out") from error
    if decoded is None:
        raise UserError(f"picture {path} cannot be decoded (damaged, or not a picture); fetch it again or leave it out")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
