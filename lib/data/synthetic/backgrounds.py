"""Backgrounds: large pictures that the camera looks at a part of."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator

from lib.data.synthetic.objects import SpriteSource
from lib.data.synthetic.render import Layer, lay_sprite
from lib.data.synthetic.textures import (
    PATTERNS,
    clouds,
    photograph_piece,
    random_palette,
    recolour,
    value_noise,
)


def paint_background(
    rng: Generator, photographs: Sequence[np.ndarray], sprites: SpriteSource, width: int, height: int
) -> np.ndarray:
    """A background (height, width, 3) uint8 RGB: one or two surfaces with things standing about."""
    image = _surface(rng, photographs, width, height)
    if rng.random() < 0.35:
        image = _join(rng, image, _surface(rng, photographs, width, height))
    for _ in range(int(rng.choice((0, 2, 4, 7)))):
        _place(rng, image, sprites)
    contrast = rng.uniform(0.55, 1.0)
    image = cv2.convertScaleAbs(image, alpha=contrast, beta=rng.uniform(0, 1 - contrast) * 200)
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 2.5))
    return image


def _surface(rng: Generator, photographs: Sequence[np.ndarray], width: int, height: int) -> np.ndarray:
    """A piece of a photograph, often recoloured, or a pattern."""
    kind = rng.random()
    if kind < 0.75:
        piece = photograph_piece(rng, photographs, height, width, (0.6, 2.2))
        if kind < 0.35:
            return piece
        return recolour(rng, piece, random_palette(rng, 3) if kind < 0.55 else None)
    palette = random_palette(rng, int(rng.integers(2, 4)))
    if kind < 0.9:
        return clouds(rng, height, width, palette)
    muted = palette.mean(axis=0) + 0.5 * (palette - palette.mean(axis=0))
    return PATTERNS[str(rng.choice(list(PATTERNS)))](rng, height, width, muted)


def _join(rng: Generator, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Two surfaces that meet at an uneven horizon."""
    height, width = upper.shape[:2]
    horizon = height * rng.uniform(0.3, 0.7)
    skyline = horizon + height * rng.uniform(0.02, 0.3) * (value_noise(rng, 1, width, width / 4, 4) - 0.5)
    weight = np.clip(np.arange(height, dtype=np.float32)[:, None] - skyline + 0.5, 0, 1)[..., None]
    return (upper + weight * (lower.astype(np.float32) - upper)).astype(np.uint8)


def _place(rng: Generator, image: np.ndarray, sprites: SpriteSource) -> None:
    """Put a still thing somewhere, in place."""
    height, width = image.shape[:2]
    still = Layer(
        sprite=sprites.draw(rng),
        path=np.array(((rng.uniform(0, width), rng.uniform(0, height)),)),
        size=np.array((np.sqrt(width * height) * rng.uniform(0.04, 0.2),)),
        angle=np.array((rng.normal(0, 0.6),)),
        stretch=np.array((rng.normal(0, 0.2),)),
        shear=np.zeros(1),
        bend=np.zeros(1),
        gain=np.array((rng.uniform(0.6, 1.0),)),
        mirrored=bool(rng.random() < 0.5),
    )
    lay_sprite(image, still, 0)
