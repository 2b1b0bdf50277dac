"""Pictures of what a network looks at, from what `StarkTracker.explain` gives."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import cv2
import numpy as np

from ...utils.errors import UserError
from .output import SURE, TRUTH, draw_box, draw_caption, save_picture, unwritten, video_writer

# Takes a frame's number and what `explain` gave of each object in it.
AttentionWriter = Callable[..., None]
FOLDER, VIDEO = "attention", "attention.mp4"
_TILE, _TITLE, _GAP = 256, 26, 4  # pixels: side of a part, height of its title, and what is between two parts


def draw_explanation(explained: Mapping[str, np.ndarray], layer: int | None = None) -> np.ndarray:
    """A picture (H, W, 3) uint8 RGB of what `StarkTracker.explain` gives; H and W stay those of the first, and even.

    The upper row is the search region, with the box, the encoder's attention from the box's centre, the decoder query's
    attention and the maps of the head; the lower row is the templates and attention to them. Each map is scaled to
    its own highest value. Attention is that of a `layer`, from 1, or the mean of all; a UserError where there is none.
    """
    search, templates = _tile(explained["search"]), [_tile(each) for each in explained["templates"]]
    scale = _TILE / len(explained["search"])
    box = explained["box"] * scale
    boxed = search.copy()
    draw_box(boxed, box, SURE)
    upper = [(boxed, "search region and box")]
    lower = [(each, f"template {number}") for number, each in enumerate(templates, start=1)]
    for name, title in (("", "attention from box centre"), ("query_", "attention of the query")):
        if f"{name}search_attention" not in explained:
            continue
        to_search = _of_layer(explained[f"{name}search_attention"], layer)
        to_templates = _of_layer(explained[f"{name}template_attention"], layer)
        upper.append((_heated(search, to_search), f"{title} {to_search.sum():.0%}"))
        if not name:
            centre = (box[:2] + box[2:] / 2).round().astype(int).tolist()
            cv2.drawMarker(upper[-1][0], centre, TRUTH, cv2.MARKER_CROSS, _TILE // 16, 2)
        top = to_templates.max()
        for number, (image, weights) in enumerate(zip(templates, to_templates, strict=True), start=1):
            lower.append((_heated(image, weights, top), f"{title}, template {number} {weights.sum():.0%}"))
    for name, titles in (("corner_maps", ("top left corner", "bottom right corner")), ("centre_map", ("centre map",))):
        if name in explained:
            for weights, title in zip(np.atleast_3d(explained[name].T).T, titles, strict=True):
                upper.append((_heated(search, weights), f"{title} (highest {weights.max():.2f})"))
    columns, height = max(len(upper), len(lower)), _TITLE + _TILE
    picture = np.full((2 * height + _GAP, columns * (_TILE + _GAP) - _GAP, 3), 32, np.uint8)
    for row, tiles in enumerate((upper, lower)):
        for column, (image, title) in enumerate(tiles):
            y, x = row * (height + _GAP), column * (_TILE + _GAP)
            part = picture[y : y + height, x : x + _TILE]
            part[_TITLE:] = image
            draw_caption(part, title)
    return picture


@contextmanager
def attention_writer(folder: Path, fps: float | None, layer: int | None = None) -> Iterator[AttentionWriter]:
    """Give the function that writes a picture `attention/00000002.jpg` of a frame by its number, from 1.

    With `fps` they are also the video `attention.mp4`, see `video_writer`. `layer` and errors are as of
    `draw_explanation`.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    try:
        with video_writer(folder / VIDEO, fps) if fps else nullcontext() as add:

            def write(number: int, *explained: Mapping[str, np.ndarray]) -> None:
                picture = np.vstack([draw_explanation(each, layer) for each in explained])
                try:
                    save_picture(folder / FOLDER / f"{number:08d}.jpg", picture)
                except OSError as error:
                    raise unwritten(folder, error) from error
                if add:
                    add(picture)

            yield write
    finally:
        with suppress(OSError):  # they hold pictures, or other results
            (folder / FOLDER).rmdir()
            folder.rmdir()


def _of_layer(maps: np.ndarray, layer: int | None) -> np.ndarray:
    """One of some maps (layers, ...), or their mean."""
    if layer is None:
        return maps.mean(0)
    if not 1 <= layer <= len(maps):
        raise UserError(f"there is no layer {layer} of attention: the network has {len(maps)}, from 1")
    return maps[layer - 1]


def _tile(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (_TILE, _TILE), interpolation=cv2.INTER_LINEAR)


def _heated(image: np.ndarray, weights: np.ndarray, top: float | None = None) -> np.ndarray:
    """A tile (H, W, 3) in grey, with weights (h, w) over it as colours: dark for 0, yellow for `top` or the highest."""
    share = cv2.resize(weights / max(weights.max() if top is None else top, 1e-12), (_TILE, _TILE)).clip(0, 1)
    colour = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    strength = (0.25 + 0.55 * share)[:, :, None]
    return ((1 - strength) * grey + strength * colour).astype(np.uint8)
