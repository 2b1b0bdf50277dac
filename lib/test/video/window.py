"""The demo's window: drawing a box, showing frames, keys."""

import os
import re
import sys

import cv2
import numpy as np

from lib.test.video.overlay import draw_caption

_TITLE = "STARK"


def missing_display() -> str | None:
    """Why no window can be opened here, in a few words; None if one can."""
    toolkit = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if toolkit and toolkit.group(1).upper() == "NONE":
        packages = "pip uninstall opencv-contrib-python-headless; pip install opencv-contrib-python"
        return f"this OpenCV has no windows ({packages})"
    # Without a display Qt ends the whole process, so it has to be known before.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (DISPLAY is not set)"
    return None


class Window:
    """A window of OpenCV's, for (H, W, 3) uint8 RGB frames; call only where `missing_display()` is None."""

    def __init__(self) -> None:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        self._sized = False

    def select_box(self, image: np.ndarray) -> list[float] | None:
        """Let the user draw a box: xywh in pixels, None where they draw none (c)."""
        image = image.copy()
        draw_caption(image, "draw a box around the object, then press Enter (c: cancel)")
        box = cv2.selectROI(_TITLE, self._prepare(image), True, False, False)
        return [float(value) for value in box] if box[2] > 0 and box[3] > 0 else None

    def show(self, image: np.ndarray) -> str:
        """Show a frame and give the key that was pressed, "" for none; closing the window counts as q."""
        cv2.imshow(_TITLE, self._prepare(image))
        code = cv2.waitKey(1)
        if cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return "q"
        return chr(code & 0xFF) if code != -1 else ""

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        """The frame as OpenCV shows it; the first one decides the window's size, which the user may change."""
        if not self._sized:
            scale = min(1.0, 1280 / image.shape[1], 720 / image.shape[0])
            cv2.resizeWindow(_TITLE, round(image.shape[1] * scale), round(image.shape[0] * scale))
            self._sized = True
        return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
