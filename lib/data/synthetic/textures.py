"""Textures: procedural patterns, and pieces of photographs that are cut, turned, warped and recoloured.

Images are (H, W, 3) uint8 RGB, palettes (N, 3) float RGB in 0..255, fields (H, W) float32 in 0..1.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.random import Generator

# A photograph's piece is drawn again when it is flatter than this (standard deviation of its grey values).
_FLAT = 16.0


def random_palette(rng: Generator, count: int) -> np.ndarray:
    """`count` colours, (count, 3) RGB in 0..255, spread over lightness so that a pattern of them is visible."""
    hue = (rng.uniform(0, 180) + rng.normal(0, 45, count)) % 180
    saturation = 255 * rng.beta(1.4, 2.0, count)
    value = rng.permutation(np.linspace(rng.uniform(30, 110), rng.uniform(190, 255), count))
    hsv = np.stack((hue, saturation, value), axis=-1).astype(np.uint8)[None]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].astype(np.float64)


def shift_hue(image: np.ndarray, degrees: float, saturation: float = 1.0, value: float = 1.0) -> np.ndarray:
    """Turn the hue of an RGB image by `degrees` and scale its saturation and value."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    ramp = np.arange(256, dtype=np.float64)
    tables = np.stack(((ramp + degrees / 2) % 180, ramp * saturation, ramp * value), axis=-1)
    hsv = cv2.LUT(hsv, np.clip(tables, 0, 255).astype(np.uint8)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def shift_palette(palette: np.ndarray, degrees: float, saturation: float = 1.0, value: float = 1.0) -> np.ndarray:
    """`shift_hue` for a palette."""
    pixels = np.clip(palette, 0, 255).astype(np.uint8)[None]
    return shift_hue(pixels, degrees, saturation, value)[0].astype(np.float64)


def value_noise(rng: Generator, height: int, width: int, cell: float, octaves: int = 3) -> np.ndarray:
    """Smooth random field whose largest features are about `cell` pixels, stretched to 0..1."""
    field = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = rng.random((int(height / step) + 3, int(width / step) + 3), dtype=np.float32)
        field += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return cv2.normalize(field, None, 0.0, 1.0, cv2.NORM_MINMAX)


def colour_ramp(field: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Colour a field in 0..1 by running through the palette."""
    knots = np.linspace(0, 255, len(palette))
    table = np.stack([np.interp(np.arange(256), knots, palette[:, channel]) for channel in range(3)], axis=-1)
    index = cv2.convertScaleAbs(field, alpha=255)
    return cv2.LUT(cv2.merge((index, index, index)), table.astype(np.uint8)[None])


def _coordinates(rng: Generator, height: int, width: int, warp: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates, turned by a random angle and displaced by noise of up to `warp` pixels."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = cos * x + sin * y, cos * y - sin * x
    cell = max(height, width) / 3
    u += warp * (value_noise(rng, height, width, cell, 1) - 0.5)
    v += warp * (value_noise(rng, height, width, cell, 1) - 0.5)
    return u, v


def clouds(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """Soft random patches."""
    return colour_ramp(value_noise(rng, height, width, max(height, width) * rng.uniform(0.1, 0.4), 4), palette)


def stripes(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """Wavy stripes with hard or soft edges."""
    side = max(height, width)
    u, _ = _coordinates(rng, height, width, side * rng.uniform(0, 0.3))
    wave = np.sin(u * (2 * np.pi * rng.uniform(2, 8) / side)) * rng.choice((0.5, 3.0))
    return colour_ramp(np.clip(0.5 + 0.5 * wave, 0, 1), palette)


def checker(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """A warped checkerboard."""
    side = max(height, width)
    u, v = _coordinates(rng, height, width, side * rng.uniform(0, 0.25))
    scale = rng.uniform(2, 6) / side * np.pi
    wave = 6 * np.sin(u * scale) * np.sin(v * scale * rng.uniform(0.6, 1.6))
    return colour_ramp(np.clip(0.5 + 0.5 * wave, 0, 1).astype(np.float32), palette)


def cells(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """Voronoi cells in mixtures of the palette, with darker borders."""
    seeds = np.full((height, width), 255, np.uint8)
    count = int(rng.integers(12, 60))
    seeds[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    weights = rng.dirichlet(np.full(len(palette), 0.4), int(labels.max()) + 1)
    image = (weights @ palette).astype(np.uint8)[labels]
    shade = 1.0 - rng.uniform(0, 0.6) * cv2.normalize(distance, None, 0.0, 1.0, cv2.NORM_MINMAX)
    return cv2.multiply(image, cv2.merge((shade, shade, shade)), dtype=cv2.CV_8U)


def dots(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """Discs of the other colours strewn over the first."""
    image = clouds(rng, height, width, 0.8 * palette[:1] + 0.2 * palette[:2])
    side = max(height, width)
    for _ in range(int(rng.integers(12, 45))):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        radius = max(1, int(side * rng.uniform(0.02, 0.09)))
        cv2.circle(image, centre, radius, palette[rng.integers(1, len(palette))].tolist(), -1, cv2.LINE_AA)
    return image


def gradient(rng: Generator, height: int, width: int, palette: np.ndarray) -> np.ndarray:
    """A colour gradient with a little grain."""
    u, _ = _coordinates(rng, height, width, max(height, width) * rng.uniform(0, 0.6))
    field = cv2.normalize(u, None, 0.0, 0.85, cv2.NORM_MINMAX)
    return colour_ramp(field + 0.15 * value_noise(rng, height, width, 6, 2), palette)


PATTERNS: dict[str, Callable[[Generator, int, int, np.ndarray], np.ndarray]] = {
    "clouds": clouds,
    "stripes": stripes,
    "checker": checker,
    "cells": cells,
    "dots": dots,
    "gradient": gradient,
}


def photograph_piece(
    rng: Generator, photographs: Sequence[np.ndarray], height: int, width: int, magnify: tuple[float, float]
) -> np.ndarray:
    """A random piece of a random photograph, turned, perhaps mirrored; the photograph's own colours.

    Args:
        magnify: range of output pixels per photograph pixel.
    """
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
        if rng.random() < 0.5:
            piece = cv2.flip(piece, 1)
        if cv2.meanStdDev(cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY))[1].item() > _FLAT:
            break
    return piece


def recolour(rng: Generator, image: np.ndarray, palette: np.ndarray | None = None) -> np.ndarray:
    """Give a picture other colours: turned hues or, with a palette, its grey values run through the palette."""
    if palette is None:
        return shift_hue(image, rng.uniform(0, 360), rng.uniform(0.5, 1.25), rng.uniform(0.75, 1.2))
    grey = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    coloured = colour_ramp(grey.astype(np.float32) / 255, palette[np.argsort(palette.sum(axis=1))])
    return cv2.addWeighted(coloured, 0.85, image, 0.15, 0)
