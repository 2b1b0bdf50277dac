"""Sprites: pictures of objects with transparency; painted, cut out of photographs, or clip-art."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.random import Generator

from lib.data.images import read_image
from lib.data.synthetic import textures
from lib.data.synthetic.photographs import Materials, Outlined, Split, clipart_files, load_photographs, outlined_objects

_SIDE = 152  # pixels of the canvas an object is painted on
_LONGEST_SIDE = 224  # of a cut-out
_BODY = 0.32  # half the longer side of the painted body, as a part of the canvas
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
        """Make a sprite of (H, W, 3) RGB and (H, W) opacity; None where less than a few pixels are solid."""
        solid = mask >= 128
        columns, rows = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
        if min(len(columns), len(rows)) < 12:
            return None
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        alpha = np.ascontiguousarray(mask[part])
        colours = cv2.multiply(np.ascontiguousarray(image[part]), cv2.merge((alpha,) * 3), scale=1 / 255)
        # Transparent border of at least two pixels, up to sides that halve four times.
        rows, columns = (-(4 + side) % 16 + 4 for side in alpha.shape)
        border = (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)
        levels = [cv2.copyMakeBorder(np.dstack((colours, alpha)), *border, cv2.BORDER_CONSTANT)]
        for _ in range(4):
            levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        return Sprite(tuple(levels), (float(alpha.shape[1]), float(alpha.shape[0])), kind, group)

    def tinted(self, degrees: float) -> "Sprite":
        """The sprite with its hue turned."""
        levels = (
            np.dstack((textures.shift_hue(level[..., :3].copy(), degrees), level[..., 3])) for level in self.levels
        )
        return replace(self, levels=tuple(levels))


@dataclass(frozen=True)
class SpriteSource:
    """Makes sprites of the materials of a split; painted sprites stand in for missing materials."""

    split: Split
    materials: Materials | None = None

    @cached_property
    def photographs(self) -> tuple[np.ndarray, ...]:
        """All photographs, each (H, W, 3) uint8 RGB."""
        return load_photographs(self.split, self.materials)

    @cached_property
    def files(self) -> dict[str, dict[int, list]]:
        """Kind -> group -> outlined objects or clip-art files; kinds without materials are left out."""
        if self.materials is None:
            return {}
        found = {"object": outlined_objects(self.materials), "clipart": clipart_files(self.materials)}
        return {kind: groups for kind, groups in found.items() if groups}

    def make(self, rng: Generator) -> Sprite:
        """A new object of any kind."""
        kinds = [*self.files, "painted"]
        shares = np.array([_SHARES[kind] for kind in kinds])
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        if kind == "painted":
            return paint_sprite(rng, int(rng.integers(2**31)), self.photographs)
        groups = self.files[kind]
        sizes = np.array([len(members) for members in groups.values()])
        return self._cut_out(rng, kind, int(rng.choice(list(groups), p=sizes / sizes.sum())))

    def look_alike(self, rng: Generator, sprite: Sprite) -> Sprite:
        """Another object of the sprite's group, or the same one; mostly in another colour."""
        chance = rng.random()
        if chance < 0.12:
            return sprite
        degrees = float(rng.normal(0, 40) if rng.random() < 0.5 else rng.uniform(40, 320))
        if sprite.kind == "painted":
            return paint_sprite(rng, sprite.group, self.photographs).tinted(degrees)
        return sprite.tinted(degrees) if chance < 0.45 else self._cut_out(rng, sprite.kind, sprite.group)

    def bar(self, rng: Generator) -> Sprite:
        """An upright post, about seven times as high as wide, that hides objects behind it."""
        image, width = self.material(rng, _SIDE, _SIDE), _SIDE // 7
        shade = np.sin(np.linspace(0.15, 0.9, width) * np.pi) * 0.6 + 0.4
        colours = (image[:, :width] * shade[None, :, None]).astype(np.uint8)
        return Sprite.from_rgba(colours, np.full(colours.shape[:2], 255, np.uint8), "painted", 0)

    def material(self, rng: Generator, height: int, width: int) -> np.ndarray:
        """A surface (height, width, 3): a piece of a photograph or a pattern."""
        return _random_material(rng, self.photographs)(rng, height, width)

    def in_place(self, rng: Generator, size: float, canvas: tuple[int, int], centre: np.ndarray):
        """A photograph (H, W, 3) of `canvas` size with one of its outlined objects at `centre`, about `size` large.

        Returns:
            The photograph, the sprite of the object, and its geometric mean size in pixels.
        """
        groups = list(self.files["object"].values())
        members = groups[rng.integers(len(groups))]
        entry: Outlined = members[rng.integers(len(members))]
        image = read_image(entry.path)
        mask = entry.mask(*image.shape[:2])
        sprite = Sprite.from_rgba(image, mask, "object", entry.category)
        if sprite is None:
            return self.in_place(rng, size, canvas, centre)
        rows, columns = np.flatnonzero((mask >= 128).any(axis=1)), np.flatnonzero((mask >= 128).any(axis=0))
        own_size = float(np.sqrt(np.prod(sprite.extent)))
        scale = float(np.clip(size / own_size, 0.35, 2.2))
        middle = np.array((columns[0] + columns[-1], rows[0] + rows[-1])) / 2
        matrix = np.column_stack((scale * np.eye(2), centre - scale * middle))
        if scale < 0.7:  # without blur, thin parts would fall between the pixels that are looked up
            image = cv2.GaussianBlur(image, (0, 0), 0.4 / scale)
        background = cv2.warpAffine(image, matrix, canvas, borderMode=cv2.BORDER_REFLECT_101)
        return background, sprite, scale * own_size

    def _cut_out(self, rng: Generator, kind: str, group: int) -> Sprite:
        """A member of a group; members that are only lines or fill their frame are passed over."""
        members = self.files[kind][group]
        for _ in range(10):
            member = members[rng.integers(len(members))]
            image, mask = _cut(member) if kind == "object" else _read_clipart(member)
            scale = _LONGEST_SIDE / max(mask.shape)
            if scale < 1:
                image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                mask = cv2.resize(mask, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_AREA)
            filled = (mask >= 128).mean()
            if kind == "object":
                # Outlines run outside the object as often as inside: the rim would show another background.
                mask = cv2.erode(mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
            mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 1.4))
            sprite = Sprite.from_rgba(image, mask, kind, group)
            if sprite is not None and 0.15 <= filled <= 0.95:
                return sprite
        return paint_sprite(rng, int(rng.integers(2**31)), self.photographs)


def _cut(entry: Outlined) -> tuple[np.ndarray, np.ndarray]:
    image = read_image(entry.path)
    x, y, width, height = entry.box
    part = slice(max(int(y) - 2, 0), int(y + height) + 3), slice(max(int(x) - 2, 0), int(x + width) + 3)
    return image[part], entry.mask(*image.shape[:2])[part]


def _read_clipart(path: str) -> tuple[np.ndarray, np.ndarray]:
    rgba = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if rgba is None or rgba.ndim != 3 or rgba.shape[2] != 4 or rgba.dtype != np.uint8:
        return np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8)
    return cv2.cvtColor(rgba[..., :3], cv2.COLOR_BGR2RGB), np.ascontiguousarray(rgba[..., 3])


def _random_material(rng: Generator, photographs: tuple[np.ndarray, ...]) -> Callable:
    """A function (rng, height, width) -> image of one random material."""
    palette = textures.random_palette(rng, int(rng.integers(2, 5)))
    pattern, kind = textures.PATTERNS[rng.integers(len(textures.PATTERNS))], rng.random()

    def material(rng: Generator, height: int, width: int) -> np.ndarray:
        if kind < 0.5:
            return pattern(rng, height, width, palette)
        piece = textures.photograph_piece(rng, photographs, height, width, (0.35, 1.1))
        return piece if kind < 0.75 else textures.recolour(piece, palette)

    return material


def paint_sprite(rng: Generator, style: int, photographs: tuple[np.ndarray, ...]) -> Sprite:
    """Paint an object: parts that stick out behind the body, the body, details on it, shading over all.

    The seed `style` decides kind of shape, proportions, material and number of parts; `rng` the rest.
    """
    fixed = np.random.default_rng(style)
    shape, aspect = str(fixed.choice(list(textures.SHAPES))), float(np.exp(np.clip(fixed.normal(0, 0.45), -0.9, 0.9)))
    material = _random_material(fixed, photographs)
    attached, details = fixed.integers((0, 1), (4, 4)) if fixed.random() < 0.6 else (0, 0)
    image, alpha = np.zeros((_SIDE, _SIDE, 3), np.uint8), np.zeros((_SIDE, _SIDE), np.uint8)
    points = _SIDE / 2 + _BODY * _SIDE * textures.outline(rng, shape, aspect * float(np.exp(rng.normal(0, 0.1))))
    body = _fill(points)
    for number in range(attached + 1 + details):
        mask, colours = body, material(rng, _SIDE, _SIDE)
        if number != attached:
            reach, size = (rng.uniform(0.75, 1.0), 0.4) if number < attached else (rng.uniform(0, 0.6), 0.25)
            centre = points.mean(axis=0) * (1 - reach) + points[rng.integers(len(points))] * reach
            part = textures.outline(rng, str(rng.choice(list(textures.SHAPES))), float(np.exp(rng.normal(0, 0.5))))
            mask = _fill(centre + size * rng.uniform(0.6, 1.4) * _BODY * _SIDE * part)
            mask = mask if number < attached else cv2.min(mask, body)
            colours = textures.shift_hue(colours, rng.uniform(-90, 90), 1.0, rng.uniform(0.5, 1.3))
        weight = mask[..., None].astype(np.float32) / 255
        image = (image + (colours.astype(np.float32) - image) * weight).astype(np.uint8)
        alpha = cv2.max(alpha, mask)
    return Sprite.from_rgba(_shade(rng, image, alpha), alpha, "painted", style)


def _fill(points: np.ndarray) -> np.ndarray:
    """Anti-aliased mask (152, 152) uint8 of a closed outline (N, 2) in pixels."""
    mask = np.zeros((_SIDE, _SIDE), np.uint8)
    return cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)


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
