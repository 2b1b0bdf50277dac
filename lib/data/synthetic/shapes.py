"""Outlines of objects: closed curves given by a radius for each direction, and masks of them."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

_DIRECTIONS = np.linspace(0, 2 * np.pi, 144, endpoint=False)
_SUBPIXEL_BITS = 4


def _ellipse(rng: Generator) -> np.ndarray:
    return np.ones_like(_DIRECTIONS)


def _superellipse(rng: Generator) -> np.ndarray:
    power = rng.choice((0.8, 3.5, 8.0))
    cos, sin = np.abs(np.cos(_DIRECTIONS)), np.abs(np.sin(_DIRECTIONS))
    return (cos**power + sin**power) ** (-1 / power)


def _polygon(rng: Generator) -> np.ndarray:
    """Convex or nearly so, 3 to 7 corners."""
    corners = int(rng.integers(3, 8))
    angles = (np.arange(corners) + rng.uniform(-0.22, 0.22, corners)) * 2 * np.pi / corners
    points = rng.uniform(0.85, 1.0, corners)[:, None] * np.stack((np.cos(angles), np.sin(angles)), axis=-1)
    return _radii_of(points)


def _star(rng: Generator) -> np.ndarray:
    tips = int(rng.integers(4, 9))
    angles = np.arange(2 * tips) * np.pi / tips
    radii = np.where(np.arange(2 * tips) % 2, rng.uniform(0.4, 0.7), 1.0)
    return _radii_of(radii[:, None] * np.stack((np.cos(angles), np.sin(angles)), axis=-1))


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


def _gear(rng: Generator) -> np.ndarray:
    teeth = int(rng.integers(5, 11))
    return 1 + rng.uniform(0.12, 0.25) * np.tanh(4 * np.cos(teeth * _DIRECTIONS))


def _radii_of(points: np.ndarray) -> np.ndarray:
    """Radius in each direction of a polygon (N, 2) that is star-shaped about the origin, corners in order of angle."""
    start, edge = points, np.roll(points, -1, axis=0) - points
    rays = np.stack((np.cos(_DIRECTIONS), np.sin(_DIRECTIONS)), axis=-1)
    cross_edge = rays[:, None, 0] * edge[None, :, 1] - rays[:, None, 1] * edge[None, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = (start[:, 0] * edge[:, 1] - start[:, 1] * edge[:, 0]) / cross_edge
        along = (start[None, :, 0] * rays[:, None, 1] - start[None, :, 1] * rays[:, None, 0]) / cross_edge
    hit = (reach > 0) & (along >= -1e-9) & (along <= 1 + 1e-9)
    return np.where(hit, reach, 0).max(axis=1)


SHAPES: dict[str, Callable[[Generator], np.ndarray]] = {
    "ellipse": _ellipse,
    "superellipse": _superellipse,
    "polygon": _polygon,
    "star": _star,
    "blob": _blob,
    "drop": _drop,
    "gear": _gear,
}


def outline(rng: Generator, shape: str, aspect: float) -> np.ndarray:
    """Points (N, 2) of a random outline of the named shape, centred on its extent.

    The longer side of the extent is 2 (-1..1); `aspect` is width / height of the extent.
    """
    points = SHAPES[shape](rng)[:, None] * np.stack((np.cos(_DIRECTIONS), np.sin(_DIRECTIONS)), axis=-1)
    turn = rng.uniform(0, 2 * np.pi) if shape in ("polygon", "star", "blob", "gear") else rng.integers(4) * np.pi / 2
    cos, sin = np.cos(turn), np.sin(turn)
    points = points @ np.array(((cos, sin), (-sin, cos)))
    low, high = points.min(axis=0), points.max(axis=0)
    points = (2 * points - low - high) / (high - low)
    return points * np.array((min(1.0, aspect), min(1.0, 1 / aspect)))


def mask_of(points: np.ndarray, side: int) -> np.ndarray:
    """Anti-aliased mask (side, side) uint8 of a closed outline (N, 2) given in pixels."""
    mask = np.zeros((side, side), np.uint8)
    fixed = np.round(points * 2**_SUBPIXEL_BITS).astype(np.int32)
    return cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
