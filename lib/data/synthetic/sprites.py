"""Sprites: pictures of objects with transparency; painted, cut out of photographs, or clip-art."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator

from .pictures import (
    Materials,
    Split,
    filled,
    find_cutouts,
    load_photographs,
    random_material,
    shift_hue,
    shrunk,
    solid_box,
)

_SIDE = 152  # pixels of the canvas an object is painted on
_BODY = 0.32 * _SIDE  # pixels, half the longer side of the painted body
_LONGEST_SIDE = 224  # pixels of a cut-out
# How often each kind is made where its materials exist.
_SHARES = {"object": 0.45, "clipart": 0.2, "painted": 0.35}


@dataclass(frozen=True)
class Sprite:
    """A picture of an object."""

    # The picture at full, half, quarter … size, each (h, w, 4) uint8 RGBA with the colours multiplied by alpha, and a
    # transparent border.
    levels: tuple[np.ndarray, ...]
    extent: tuple[float, float]  # width and height of the object in the first level, in pixels
    kind: str  # `painted`, `object` or `clipart`
    group: int  # category of objects, folder of clip-art, seed of a painted object's style; look-alikes share it

    @staticmethod
    def from_rgba(image: np.ndarray, mask: np.ndarray, kind: str, group: int) -> "Sprite | None":
        """Make a sprite of (H, W, 3) RGB and (H, W) opacity; None where it is less than 12 pixels wide or high."""
        x, y, width, height = solid_box(mask)
        if min(width, height) < 12:
            return None
        part = slice(y, y + height), slice(x, x + width)
        alpha = np.ascontiguousarray(mask[part])
        colours = cv2.multiply(np.ascontiguousarray(image[part]), cv2.merge((alpha,) * 3), scale=1 / 255)
        # Transparent border of at least two pixels, up to sides that halve four times.
        high, wide = (-(4 + side) % 16 + 4 for side in alpha.shape)
        border = (high // 2, high - high // 2, wide // 2, wide - wide // 2)
        levels = [cv2.copyMakeBorder(np.dstack((colours, alpha)), *border, cv2.BORDER_CONSTANT)]
        for _ in range(4):
            levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        return Sprite(tuple(levels), (float(alpha.shape[1]), float(alpha.shape[0])), kind, group)

    def tinted(self, degrees: float) -> "Sprite":
        """The sprite with its hue turned."""
        levels = (np.dstack((shift_hue(level[..., :3].copy(), degrees), level[..., 3])) for level in self.levels)
        return replace(self, levels=tuple(levels))


class SpriteSource:
    """Makes sprites of the materials of a split; painted sprites stand in for missing materials."""

    def __init__(self, split: Split, materials: Materials) -> None:
        self.photographs, self.cutouts = load_photographs(split, materials), find_cutouts(materials)

    def make(self, rng: Generator) -> Sprite:
        """A new object of any kind."""
        kinds = [*self.cutouts, "painted"]
        shares = np.array([_SHARES[kind] for kind in kinds])
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        if kind == "painted":
            return self._paint(rng, int(rng.integers(2**31)))
        groups = self.cutouts[kind]
        sizes = np.array([len(members) for members in groups.values()])
        return self._cut_out(rng, kind, int(rng.choice(list(groups), p=sizes / sizes.sum())))

    def look_alike(self, rng: Generator, sprite: Sprite) -> Sprite:
        """Another object of the sprite's group, or the same one; mostly in another colour."""
        chance = rng.random()
        if chance < 0.12:
            return sprite
        degrees = float(rng.normal(0, 40) if rng.random() < 0.5 else rng.uniform(40, 320))
        if sprite.kind == "painted":
            return self._paint(rng, sprite.group).tinted(degrees)
        return sprite.tinted(degrees) if chance < 0.45 else self._cut_out(rng, sprite.kind, sprite.group)

    def bar(self, rng: Generator) -> Sprite:
        """An upright post, about seven times as high as wide, that hides objects behind it."""
        image, width = self.material(rng, _SIDE, _SIDE), _SIDE // 7
        shade = np.sin(np.linspace(0.15, 0.9, width) * np.pi) * 0.6 + 0.4
        colours = (image[:, :width] * shade[None, :, None]).astype(np.uint8)
        return Sprite.from_rgba(colours, np.full(colours.shape[:2], 255, np.uint8), "painted", 0)

    def material(self, rng: Generator, height: int, width: int) -> np.ndarray:
        """A surface (height, width, 3): a piece of a photograph or a pattern."""
        return random_material(rng, self.photographs)(rng, height, width)

    def _cut_out(self, rng: Generator, kind: str, group: int) -> Sprite:
        """A member of a group; members that are only lines or fill their frame are passed over."""
        members = self.cutouts[kind][group]
        for _ in range(10):
            image, mask = members[rng.integers(len(members))]()
            image, mask = shrunk(image, _LONGEST_SIDE), shrunk(mask, _LONGEST_SIDE)
            share = (mask >= 128).mean()
            if kind == "object":
                # Outlines run outside the object as often as inside: the rim would show another background.
                mask = cv2.erode(mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
            mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 1.4))
            sprite = Sprite.from_rgba(image, mask, kind, group)
            if sprite is not None and 0.15 <= share <= 0.95:
                return sprite
        return self._paint(rng, int(rng.integers(2**31)))

    def _paint(self, rng: Generator, style: int) -> Sprite:
        """Paint an object: parts that stick out behind the body, the body, details on it, shading over all.

        The seed `style` decides kind of shape, proportions, material and number of parts; `rng` the rest.
        """
        fixed = np.random.default_rng(style)
        shape, aspect = fixed.integers(len(_SHAPES)), float(np.exp(np.clip(fixed.normal(0, 0.45), -0.9, 0.9)))
        material = random_material(fixed, self.photographs)
        attached, details = fixed.integers((0, 1), (4, 4)) if fixed.random() < 0.6 else (0, 0)
        image, alpha = np.zeros((_SIDE, _SIDE, 3), np.uint8), np.zeros((_SIDE, _SIDE), np.uint8)
        points = _SIDE / 2 + _BODY * _outline(rng, shape, aspect * float(np.exp(rng.normal(0, 0.1))))
        body = filled(_SIDE, _SIDE, points)
        for number in range(attached + 1 + details):
            mask, colours = body, material(rng, _SIDE, _SIDE)
            if number != attached:
                reach, size = (rng.uniform(0.75, 1.0), 0.4) if number < attached else (rng.uniform(0, 0.6), 0.25)
                centre = points.mean(axis=0) * (1 - reach) + points[rng.integers(len(points))] * reach
                part = _outline(rng, rng.integers(len(_SHAPES)), float(np.exp(rng.normal(0, 0.5))))
                mask = filled(_SIDE, _SIDE, centre + size * rng.uniform(0.6, 1.4) * _BODY * part)
                mask = mask if number < attached else cv2.min(mask, body)
                colours = shift_hue(colours, rng.uniform(-90, 90), 1.0, rng.uniform(0.5, 1.3))
            weight = mask[..., None].astype(np.float32) / 255
            image = (image + (colours.astype(np.float32) - image) * weight).astype(np.uint8)
            alpha = cv2.max(alpha, mask)
        return Sprite.from_rgba(_shade(rng, image, alpha), alpha, "painted", style)


def _shade(rng: Generator, image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give volume: darker towards the rim, lighter on one side, sometimes a dark or light contour."""
    depth = cv2.distanceTransform((alpha >= 128).astype(np.uint8), cv2.DIST_L2, 3)
    depth /= max(float(depth.max()), 1.0)
    y, x = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j].astype(np.float32)
    direction, slope = rng.uniform(0, 2 * np.pi), np.float32(rng.uniform(0, 0.5))
    light = 1 + slope * (np.float32(np.cos(direction)) * x + np.float32(np.sin(direction)) * y)
    light *= 1 - np.float32(rng.uniform(0, 0.6)) * (1 - np.sqrt(depth))
    if rng.random() < 0.3:
        light[depth < 0.08] *= rng.choice((0.35, 1.6))
    return cv2.multiply(image, cv2.merge((light, light, light)), dtype=cv2.CV_8U)


# Outlines are radii in 144 directions.
_DIRECTIONS = np.linspace(0, 2 * np.pi, 144, endpoint=False)
_RAYS = np.stack((np.cos(_DIRECTIONS), np.sin(_DIRECTIONS)), axis=-1)


def _outline(rng: Generator, shape: int, aspect: float) -> np.ndarray:
    """Points (N, 2) of a random outline, centred; the longer side is 2, `aspect` is width / height."""
    radii = _SHAPES[shape]
    turn = rng.uniform(0, 2 * np.pi) if radii in (_polygon, _blob) else rng.integers(4) * np.pi / 2
    cos, sin = np.cos(turn), np.sin(turn)
    points = radii(rng)[:, None] * _RAYS @ np.array(((cos, sin), (-sin, cos)))
    low, high = points.min(axis=0), points.max(axis=0)
    return (2 * points - low - high) / (high - low) * np.array((min(1.0, aspect), min(1.0, 1 / aspect)))


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


_SHAPES = (_superellipse, _polygon, _blob, _drop)
