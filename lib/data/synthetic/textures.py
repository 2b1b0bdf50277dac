"""Shapes and textures: outlines, procedural patterns, and pieces of photographs.

Images are (H, W, 3) uint8 RGB, palettes (N, 3) float RGB in 0..255, fields (H, W) float32 in 0..1.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.random import Generator

_DIRECTIONS = np.linspace(0, 2 * np.pi, 144, endpoint=False)
_RAYS = np.stack((np.cos(_DIRECTIONS), np.sin(_DIRECTIONS)), axis=-1)
# Another piece of a photograph is taken where one is flatter than this (standard deviation of its grey values).
_FLAT = 16.0


def _superellipse(rng: Generator) -> np.ndarray:
    """Between a diamond, an ellipse and a rectangle."""
    power = rng.choice((0.8, 2.0, 3.5, 8.0))
    return (np.abs(_RAYS) ** power).sum(axis=1) ** (-1 / power)


def _polygon(rng: Generator) -> np.ndarray:
    """3 to 7 corners; half of them are stars, with a notch between corners."""
    corners = int(rng.integers(3, 8))
    position = np.linspace(0, corners, len(_DIRECTIONS), endpoint=False) % 1
    if rng.random() < 0.5:
        notch = rng.uniform(0.4, 0.7)
        return 1 / (1 + (1 / notch - 1) * (1 - np.abs(2 * position - 1)))
    return np.cos(np.pi / corners) / np.cos((position - 0.5) * 2 * np.pi / corners)


def _blob(rng: Generator) -> np.ndarray:
    """Low-frequency random waves on a circle."""
    waves = np.arange(2, 7)
    amplitude = rng.normal(0, 0.28, len(waves)) / waves**0.8
    phase = rng.uniform(0, 2 * np.pi, len(waves))
    radii = 1 + (amplitude[:, None] * np.cos(waves[:, None] * _DIRECTIONS + phase[:, None])).sum(axis=0)
    return np.clip(radii, 0.35, None)


def _drop(rng: Generator) -> np.ndarray:
    """Round on one side, drawn to a tip on the other."""
    distance = np.abs((_DIRECTIONS + np.pi) % (2 * np.pi) - np.pi)
    return 0.6 + rng.uniform(0.4, 0.9) * np.exp(-distance / rng.uniform(0.25, 0.6))


# Name -> radius in each direction.
SHAPES: dict[str, Callable[[Generator], np.ndarray]] = {
    "superellipse": _superellipse,
    "polygon": _polygon,
    "blob": _blob,
    "drop": _drop,
}


def outline(rng: Generator, shape: str, aspect: float) -> np.ndarray:
    """Points (N, 2) of a random outline, centred; the longer side is 2, `aspect` is width / height."""
    turn = rng.uniform(0, 2 * np.pi) if shape in ("polygon", "blob") else rng.integers(4) * np.pi / 2
    cos, sin = np.cos(turn), np.sin(turn)
    points = SHAPES[shape](rng)[:, None] * _RAYS @ np.array(((cos, sin), (-sin, cos)))
    low, high = points.min(axis=0), points.max(axis=0)
    return (2 * points - low - high) / (high - low) * np.array((min(1.0, aspect), min(1.0, 1 / aspect)))


def random_palette(rng: Generator, count: int) -> np.ndarray:
    """`count` colours of similar hue, spread over lightness so that a pattern of them is visible."""
    hue = (rng.uniform(0, 180) + rng.normal(0, 45, count)) % 180
    saturation = 255 * rng.beta(1.4, 2.0, count)
    value = rng.permutation(np.linspace(rng.uniform(30, 110), rng.uniform(190, 255), count))
    hsv = np.stack((hue, saturation, value), axis=-1).astype(np.uint8)[None]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].astype(np.float64)


def shift_hue(image: np.ndarray, degrees: float, saturation: float = 1.0, value: float = 1.0) -> np.ndarray:
    """Turn the hue of an image by `degrees` and scale its saturation and value."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    ramp = np.arange(256, dtype=np.float64)
    tables = np.stack(((ramp + degrees / 2) % 180, ramp * saturation, ramp * value), axis=-1)
    hsv = cv2.LUT(hsv, np.clip(tables, 0, 255).astype(np.uint8)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def recolour(image: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Run the grey values of an image through a palette."""
    grey = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).astype(np.float32) / 255
    coloured = _colour_ramp(grey, palette[np.argsort(palette.sum(axis=1))])
    return cv2.addWeighted(coloured, 0.85, image, 0.15, 0)


def value_noise(rng: Generator, height: int, width: int, cell: float, octaves: int = 3) -> np.ndarray:
    """Smooth random field whose largest features are about `cell` pixels, stretched to 0..1."""
    field = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = rng.random((int(height / step) + 3, int(width / step) + 3), dtype=np.float32)
        field += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return cv2.normalize(field, None, 0.0, 1.0, cv2.NORM_MINMAX)


def _colour_ramp(field: np.ndarray, palette: np.ndarray) -> np.ndarray:
    knots = np.linspace(0, 255, len(palette))
    table = np.stack([np.interp(np.arange(256), knots, palette[:, channel]) for channel in range(3)], axis=-1)
    index = cv2.convertScaleAbs(field, alpha=255)
    return cv2.LUT(cv2.merge((index, index, index)), table.astype(np.uint8)[None])


def _warped_coordinates(rng: Generator, height: int, width: int, warp: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates, turned by a random angle and displaced by noise of up to `warp` pixels."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    shifts = [warp * (value_noise(rng, height, width, max(height, width) / 3, 1) - 0.5) for _ in range(2)]
    return cos * x + sin * y + shifts[0], cos * y - sin * x + shifts[1]


def _clouds(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """Soft random patches."""
    return _colour_ramp(value_noise(rng, height, width, max(height, width) * rng.uniform(0.1, 0.4), 4), palette)


def _waves(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """Wavy stripes, or a warped checkerboard; soft or hard edges."""
    side = max(height, width)
    u, v = _warped_coordinates(rng, height, width, side * rng.uniform(0, 0.3))
    wave = np.sin(u * np.float32(np.pi * rng.uniform(3, 14) / side)) * np.float32(rng.choice((0.5, 3.0)))
    if rng.random() < 0.5:
        wave *= 2 * np.sin(v * np.float32(np.pi * rng.uniform(2, 8) / side))
    return _colour_ramp(np.clip(0.5 + 0.5 * wave, 0, 1), palette)


def _cells(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """Voronoi cells in mixtures of the palette, with darker borders."""
    seeds = np.full((height, width), 255, np.uint8)
    count = int(rng.integers(12, 60))
    seeds[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    weights = rng.dirichlet(np.full(len(palette), 0.4), int(labels.max()) + 1)
    image = (weights @ palette).astype(np.uint8)[labels]
    shade = 1.0 - rng.uniform(0, 0.6) * cv2.normalize(distance, None, 0.0, 1.0, cv2.NORM_MINMAX)
    return cv2.multiply(image, cv2.merge((shade, shade, shade)), dtype=cv2.CV_8U)


# Functions (rng, height, width, palette) -> image.
PATTERNS = (_clouds, _waves, _cells)


def photograph_piece(
    rng: Generator, photographs: Sequence[np.ndarray], height: int, width: int, magnify: tuple[float, float]
) -> np.ndarray:
    """A random piece of a random photograph, turned; `magnify` is a range of output pixels per photograph pixel."""
    piece = np.zeros((height, width, 3), np.uint8)
    for _ in range(4):
        photograph = photographs[rng.integers(len(photographs))]
        scale = rng.uniform(*magnify)
        if scale < 1:
            photograph = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            scale = 1.0
        rows, columns = photograph.shape[:2]
        centre = (columns * rng.uniform(0.2, 0.8), rows * rng.uniform(0.2, 0.8))
        matrix = cv2.getRotationMatrix2D(centre, rng.normal(0, 12), scale)
        matrix[:, 2] += (width / 2 - centre[0], height / 2 - centre[1])
        piece = cv2.warpAffine(photograph, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        if cv2.meanStdDev(cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY))[1].item() > _FLAT:
            break
    return piece
