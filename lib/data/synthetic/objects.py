"""Sprites: pictures of objects with transparency, and the source that paints them."""

from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.random import Generator

from lib.data.synthetic.photographs import Split, load_photographs
from lib.data.synthetic.shapes import SHAPES, mask_of, outline
from lib.data.synthetic.textures import (
    PATTERNS,
    photograph_piece,
    random_palette,
    recolour,
    shift_hue,
    shift_palette,
)

_SIDE = 152  # pixels of the canvas an object is painted on
_BODY = 0.32  # half the longer side of the body, as a part of the canvas


@dataclass(frozen=True)
class Recipe:
    """What look-alikes have in common: the kind of shape and material, not their details."""

    shape: str
    texture: str
    aspect: float
    palette: np.ndarray
    own_colours: bool
    attached: int
    details: int


@dataclass(frozen=True)
class Sprite:
    """A picture of an object.

    Attributes:
        levels: the picture at full, half, quarter … size, each (h, w, 4) uint8 RGBA with
            the colours multiplied by alpha, and a border of transparent pixels.
        extent: width and height of the object in the first level, in pixels.
        name: what it is, for the sequence's meta_info.ini.
        recipe: how it was painted, or where it comes from; None where nothing is known.
    """

    levels: tuple[np.ndarray, ...]
    extent: tuple[float, float]
    name: str
    recipe: object | None = None

    @staticmethod
    def from_rgba(rgba: np.ndarray, name: str, recipe: object | None = None) -> "Sprite":
        """Make a sprite of a straight-alpha (H, W, 4) uint8 picture; raises ValueError if all of it is transparent."""
        solid = rgba[..., 3] >= 128
        if not solid.any():
            raise ValueError(f"sprite {name}: the picture is wholly transparent")
        columns, rows = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
        picture = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        alpha = cv2.merge((picture[..., 3],) * 3)
        colours = cv2.multiply(np.ascontiguousarray(picture[..., :3]), alpha, scale=1 / 255)
        level = _pad(np.dstack((colours, alpha[..., 0])))
        levels = [level]
        while not (level.shape[0] % 2 or level.shape[1] % 2) and len(levels) < 5:
            level = cv2.resize(level, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            levels.append(level)
        return Sprite(tuple(levels), (float(len(picture[0])), float(len(picture))), name, recipe)

    def mean_colour(self) -> np.ndarray:
        """Mean RGB over the object, 0..255."""
        total = self.levels[-1].reshape(-1, 4).sum(axis=0, dtype=np.float64)
        return 255 * total[:3] / max(total[3], 1)


class SpriteSource(Protocol):
    """Where a scene's objects come from."""

    def draw(self, rng: Generator) -> Sprite:
        """A new object."""

    def look_alike(self, rng: Generator, sprite: Sprite) -> Sprite:
        """Another object that resembles `sprite`, which this source drew."""

    def bar(self, rng: Generator) -> Sprite:
        """A long, solid thing that hides what passes behind it."""


@dataclass(frozen=True)
class PaintedSprites:
    """Objects painted from scratch: procedural shapes filled with patterns and pieces of a split's photographs."""

    split: Split

    def draw(self, rng: Generator) -> Sprite:
        """A new object of random shape and material."""
        texture = "photograph" if rng.random() < 0.5 else str(rng.choice(list(PATTERNS)))
        composite = rng.random() < 0.6
        recipe = Recipe(
            shape=str(rng.choice(list(SHAPES))),
            texture=texture,
            aspect=float(np.exp(np.clip(rng.normal(0, 0.45), -0.9, 0.9))),
            palette=random_palette(rng, int(rng.integers(2, 5))),
            own_colours=bool(rng.random() < 0.5),
            attached=int(rng.integers(0, 4)) if composite else 0,
            details=int(rng.integers(1, 4)) if composite else 0,
        )
        return self._paint(rng, recipe)

    def look_alike(self, rng: Generator, sprite: Sprite) -> Sprite:
        """The same kind of shape and material with other details and a turned hue; now and then an exact twin."""
        recipe = sprite.recipe
        if not isinstance(recipe, Recipe) or rng.random() < 0.12:
            return sprite
        degrees = rng.uniform(25, 180) * rng.choice((-1, 1))
        saturation, value = rng.uniform(0.6, 1.4), rng.uniform(0.6, 1.3)
        recipe = replace(
            recipe,
            aspect=float(np.clip(recipe.aspect * np.exp(rng.normal(0, 0.15)), 0.4, 2.5)),
            palette=shift_palette(recipe.palette, degrees, saturation, value),
        )
        other = self._paint(rng, recipe)
        if recipe.texture == "photograph" and recipe.own_colours:
            tinted = tuple(tint(level, degrees) for level in other.levels)
            other = replace(other, levels=tinted)
        return other

    def bar(self, rng: Generator) -> Sprite:
        """An upright post: a rectangle about seven times as high as wide."""
        texture = "photograph" if rng.random() < 0.5 else str(rng.choice(list(PATTERNS)))
        recipe = Recipe("superellipse", texture, 0.14, random_palette(rng, 3), True, 0, 0)
        picture = self._material(rng, recipe, _SIDE)
        width = int(_SIDE * recipe.aspect)
        shade = np.sin(np.linspace(0.15, 0.9, width) * np.pi) * 0.6 + 0.4
        colours = (picture[:, :width] * shade[None, :, None]).astype(np.uint8)
        return Sprite.from_rgba(np.dstack((colours, np.full(colours.shape[:2], 255, np.uint8))), "post", recipe)

    def _material(self, rng: Generator, recipe: Recipe, side: int) -> np.ndarray:
        """A square (side, side, 3) of the recipe's material."""
        if recipe.texture != "photograph":
            return PATTERNS[recipe.texture](rng, side, side, recipe.palette)
        piece = photograph_piece(rng, load_photographs(self.split), side, side, (0.35, 1.1))
        return piece if recipe.own_colours else recolour(rng, piece, recipe.palette)

    def _paint(self, rng: Generator, recipe: Recipe) -> Sprite:
        """Body, parts that stick out behind it, details on it, shading over all."""
        body = _SIDE / 2 + _BODY * _SIDE * outline(rng, recipe.shape, recipe.aspect)
        mask = mask_of(body, _SIDE)
        image = np.zeros((_SIDE, _SIDE, 3), np.uint8)
        alpha = np.zeros((_SIDE, _SIDE), np.uint8)
        for _ in range(recipe.attached):
            part = _part_outline(rng, body, reach=rng.uniform(0.75, 1.0), size=rng.uniform(0.28, 0.5))
            part_mask = mask_of(part, _SIDE)
            _blend(image, self._part_material(rng, recipe), part_mask)
            alpha = cv2.max(alpha, part_mask)
        _blend(image, self._material(rng, recipe, _SIDE), mask)
        alpha = cv2.max(alpha, mask)
        for _ in range(recipe.details):
            part = _part_outline(rng, body, reach=rng.uniform(0, 0.6), size=rng.uniform(0.15, 0.4))
            detail_mask = cv2.min(mask_of(part, _SIDE), mask)
            _blend(image, self._part_material(rng, recipe), detail_mask)
        image = _shade(rng, image, alpha)
        return Sprite.from_rgba(np.dstack((image, alpha)), f"{recipe.texture} {recipe.shape}", recipe)

    def _part_material(self, rng: Generator, recipe: Recipe) -> np.ndarray:
        """Plain colour of the palette, or the material again with shifted colours."""
        if rng.random() < 0.6:
            colour = recipe.palette[rng.integers(len(recipe.palette))] * rng.uniform(0.5, 1.2)
            return np.full((_SIDE, _SIDE, 3), np.clip(colour, 0, 255).astype(np.uint8))
        return shift_hue(self._material(rng, recipe, _SIDE), rng.uniform(-60, 60), 1.0, rng.uniform(0.5, 1.3))


def _pad(picture: np.ndarray, multiple: int = 16) -> np.ndarray:
    """Surround with at least two transparent pixels, up to sides that halve without a remainder."""
    rows, columns = (-(4 + side) % multiple + 4 for side in picture.shape[:2])
    border = (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)
    return cv2.copyMakeBorder(picture, *border, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))


def _part_outline(rng: Generator, body: np.ndarray, reach: float, size: float) -> np.ndarray:
    """A small outline in pixels, centred at `reach` (0 the middle, 1 the rim) along a random ray of the body."""
    centre = body.mean(axis=0)
    place = centre + reach * (body[rng.integers(len(body))] - centre)
    shape = str(rng.choice(("ellipse", "superellipse", "polygon", "drop")))
    points = outline(rng, shape, float(np.exp(rng.normal(0, 0.5))))
    return place + size * _BODY * _SIDE * points


def _blend(image: np.ndarray, colours: np.ndarray, mask: np.ndarray) -> None:
    """Lay `colours` over `image` in place, by `mask` as opacity."""
    weight = mask[..., None].astype(np.float32) / 255
    image[:] = (image + (colours.astype(np.float32) - image) * weight).astype(np.uint8)


def _shade(rng: Generator, image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give volume: darker towards the rim, lighter on one side, sometimes a dark or light contour."""
    depth = cv2.distanceTransform((alpha >= 128).astype(np.uint8), cv2.DIST_L2, 3)
    depth /= max(float(depth.max()), 1.0)
    y, x = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j].astype(np.float32)
    direction = rng.uniform(0, 2 * np.pi)
    slope = np.float32(rng.uniform(0, 0.5))
    light = 1 + slope * (np.float32(np.cos(direction)) * x + np.float32(np.sin(direction)) * y)
    light *= 1 - np.float32(rng.uniform(0, 0.6)) * (1 - np.sqrt(depth))
    if rng.random() < 0.3:
        light[depth < 0.08] *= rng.choice((0.35, 1.6))
    return cv2.multiply(image, cv2.merge((light, light, light)), dtype=cv2.CV_8U)


def tint(level: np.ndarray, degrees: float) -> np.ndarray:
    """Turn the hue of a premultiplied RGBA picture; its value, hence the premultiplication, stays."""
    return np.dstack((shift_hue(np.ascontiguousarray(level[..., :3]), degrees), level[..., 3]))
