"""Drawing a tracker's result into a frame so that it shows on any background."""

import cv2
import numpy as np

# RGB; both are apart in lightness from the dark line around the box, and from each other for the colour-blind.
SURE, UNSURE = (80, 255, 80), (255, 140, 0)
# Of several objects or trackers: the colours of the project's pages on a dark ground, but for the last.
DISTINCT = (
    (63, 160, 224),
    (245, 129, 58),
    (34, 196, 147),
    (231, 154, 196),
    (242, 182, 60),
    (155, 215, 251),
    (30, 30, 30),
)
_DARK = (16, 16, 16)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_box(image: np.ndarray, box: list[float], color: tuple[int, int, int] = SURE) -> None:
    """Draw a box with a dark line on both sides into an image.

    Args:
        image: (H, W, 3) uint8 RGB, changed in place.
        box: xywh in pixels, finite; parts outside the image are not drawn.
        color: RGB.
    """
    height, width = image.shape[:2]
    line = max(1, round(min(height, width) / 240))
    # OpenCV draws with 32-bit coordinates: far outside, a box is cut where it cannot be seen.
    x1, x2 = np.clip([box[0], box[0] + box[2]], -width, 2 * width).round().astype(int).tolist()
    y1, y2 = np.clip([box[1], box[1] + box[3]], -height, 2 * height).round().astype(int).tolist()
    for thickness, paint in ((line + 2 * max(1, line // 2), _DARK), (line, color)):
        cv2.rectangle(image, (x1, y1), (x2, y2), paint, thickness)


def draw_mask(image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int] = SURE) -> None:
    """Tint a mask's pixels, and draw its outline with a dark line outside.

    Args:
        image: (H, W, 3) uint8 RGB, changed in place.
        mask: (H, W) bool.
        color: RGB.
    """
    tinted = (image[mask].astype(np.uint16) + color) // 2
    image[mask] = tinted.astype(np.uint8)
    line = max(1, round(min(image.shape[:2]) / 360))
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for thickness, paint in ((3 * line, _DARK), (line, color)):
        cv2.drawContours(image, outlines, -1, paint, thickness)


def draw_caption(image: np.ndarray, text: str) -> None:
    """Write one line of ASCII text on a dark plate in the top left corner.

    Args:
        image: (H, W, 3) uint8 RGB, changed in place.
        text: made smaller where the image is too narrow for it.
    """
    height, width = image.shape[:2]
    scale = min(max(min(height, width) / 720, 0.4), 3.0)
    (text_width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    scale *= min(1.0, 0.94 * width / max(text_width, 1))
    thickness = max(1, round(scale * 1.4))
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    pad = max(2, text_height // 2)
    plate = image[: text_height + below + 2 * pad, : text_width + 2 * pad]
    plate //= 4
    cv2.putText(image, text, (pad, pad + text_height), _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
