"""Samples as pictures: template(s) and search region, the truth, the prediction."""

import cv2
import numpy as np
import torch
from torch import Tensor

from lib.train.loader import Batch
from lib.train.losses import Outcome
from lib.utils.boxes import box_iou, sort_corners, xywh_to_xyxy

Colour = tuple[int, int, int]
TRUTH, PREDICTION, WHITE, GROUND = (64, 220, 64), (255, 64, 64), (255, 255, 255), (24, 24, 24)
# Pixels: regions are enlarged to this height at least, so that a box of a few pixels and the text can be seen.
LEAST_HEIGHT = 320
CAPTION_HEIGHT, GAP = 28, 4
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.55


@torch.no_grad()
def sample_pictures(batch: Batch, outcome: Outcome, limit: int = 4) -> np.ndarray:
    """Strips of template(s) and search region as the network sees them, with their brightness; captions above.

    The true box is green, the predicted one red, a predicted mask reddish with the true one's outline in green. Where
    only the score head is trained, the caption has its score and whether the object is there; the stand-in box of an
    absent object is not drawn.

    Args:
        batch: B samples with T templates.
        outcome: the network's, of this batch.
        limit: of strips, the first ones of the batch.

    Returns:
        (N, H, W, 3) uint8 RGB, N = min(B, limit).
    """
    count = min(len(batch.search), limit)
    height = max(LEAST_HEIGHT, batch.search.shape[1])
    truth = xywh_to_xyxy(batch.boxes[:count].float()).clamp(0, 1)
    predicted = None if outcome.boxes is None else sort_corners(outcome.boxes[:count].float().cpu())
    strips = []
    for i in range(count):
        panels = []
        for t, crop in enumerate(batch.templates[:, i]):
            title = "template" if t == 0 else "dynamic template"
            panels.append(_captioned(_seen(crop, batch.brightness[t, i], height), [(title, WHITE)]))
        search, caption = _seen(batch.search[i], batch.brightness[-1, i], height), [("search", WHITE)]
        if outcome.masks is not None:
            _tint(search, outcome.masks[i], batch.object_masks[i])
        if batch.labels[i] > 0.5:
            _draw(search, truth[i], TRUTH)
            caption.append(("present" if predicted is None else "truth", TRUTH))
        else:
            caption.append(("absent", TRUTH))
        if predicted is not None:
            _draw(search, predicted[i], PREDICTION)
            caption += [("prediction", PREDICTION), (f"IoU {box_iou(predicted[i], truth[i])[0]:.2f}", WHITE)]
        if outcome.scores is not None:
            caption.append((f"score {outcome.scores[i]:.2f}", PREDICTION))
        strips.append(np.concatenate([*panels, _captioned(search, caption)], axis=1)[:, :-GAP])
    return np.stack(strips)


def _seen(crop: Tensor, brightness: Tensor, height: int) -> np.ndarray:
    """A crop (H, W, 3) uint8 with its brightness, `height` high."""
    pixels = (crop.float() * brightness).clamp(max=255).round().byte().numpy()
    width = round(pixels.shape[1] * height / pixels.shape[0])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)


def _tint(picture: np.ndarray, mask: Tensor, truth: Tensor) -> None:
    """Redden a picture where a mask (S, S) is likely, and draw the true mask's outline."""
    size = picture.shape[1::-1]
    likely = cv2.resize(mask.float().cpu().numpy(), size)[..., None]
    picture[:] = (picture * (1 - 0.5 * likely) + np.array(PREDICTION) * 0.5 * likely).round()
    shown = cv2.resize(truth.numpy().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    cv2.drawContours(picture, cv2.findContours(shown, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0], -1, TRUTH, 1)


def _draw(picture: np.ndarray, box: Tensor, colour: Colour) -> None:
    """A box, xyxy in fractions of the picture, with a dark rim; parts outside are drawn along its border."""
    height, width = picture.shape[:2]
    corners = (box.numpy() * (width, height, width, height)).round().clip(1, (width - 2, height - 2) * 2)
    x1, y1, x2, y2 = map(int, corners)
    for line, thickness in ((GROUND, 3), (colour, 2)):
        cv2.rectangle(picture, (x1, y1), (x2, y2), line, thickness, cv2.LINE_AA)


def _captioned(picture: np.ndarray, words: list[tuple[str, Colour]]) -> np.ndarray:
    """A picture with a gap on its right, below a line of coloured words."""
    caption = np.full((CAPTION_HEIGHT, picture.shape[1], 3), GROUND, np.uint8)
    x = 6
    for text, colour in words:
        cv2.putText(caption, text, (x, CAPTION_HEIGHT - 9), FONT, FONT_SCALE, colour, 1, cv2.LINE_AA)
        x += cv2.getTextSize(text, FONT, FONT_SCALE, 1)[0][0] + 12
    return cv2.copyMakeBorder(np.concatenate((caption, picture)), 0, 0, 0, GAP, cv2.BORDER_CONSTANT, value=GROUND)
