"""Shows drawings in a window while they are made, if OpenCV and the machine support windows."""

import os
import sys

import cv2
import numpy as np
import numpy.typing as npt

from supernet.errors import UserError

_TITLE = "people"
_END_KEYS = (ord("q"), 27)  # 27 is Escape
_POLL_MS = 50


class Window:
    """A window on the screen.

    Raises:
        UserError: There is no screen, or this build of OpenCV does not support windows.
    """

    def __init__(self) -> None:
        needs_display = sys.platform.startswith("linux")
        if needs_display and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise UserError("--show needs a screen, but DISPLAY is not set; leave it out and open the written files")
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise UserError(
                "--show needs an OpenCV with window support; replace opencv-python-headless by opencv-python, or leave "
                "it out"
            ) from error

    def show(self, image: npt.NDArray[np.uint8], wait: bool) -> bool:
        """Show an image (H, W, 3), RGB; with ``wait``, until a key is pressed.

        Returns:
            False if the user pressed q or Escape, or closed the window, to end the run.
        """
        cv2.imshow(_TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        while True:
            key = cv2.waitKey(_POLL_MS if wait else 1)
            if key in _END_KEYS or cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
                return False
            if key >= 0 or not wait:
                return True

    def close(self) -> None:
        """Close the window."""
        cv2.destroyWindow(_TITLE)
