"""Sprites of real things: objects cut out of photographs, clip-art, and pieces of photographs of any shape."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np
from numpy.random import Generator

from lib.data.images import read_image
from lib.data.synthetic.materials import Materials, Outlined, clipart_files, load_pictures, outlined_objects
from lib.data.synthetic.objects import PaintedSprites, Sprite, tint
from lib.data.synthetic.photographs import load_photographs
from lib.data.synthetic.shapes import SHAPES, mask_of, outline
from lib.data.synthetic.textures import photograph_piece, recolour

_SIDE = 224  # longest side of a sprite in pixels
_PIECE = 152  # canvas of a piece of a photograph
# How often each kind is drawn where all are there.
_SHARES = {"object": 0.45, "clipart": 0.2, "piece": 0.25, "painted": 0.1}


@dataclass(frozen=True)
class Origin:
    """Where a sprite comes from, so that another of its kind can be found.

    Attributes:
        kind: `object`, `clipart` or `piece`.
        group: number of its category, or of its folder.
    """

    kind: str
    group: int


@dataclass(frozen=True)
class InPlace:
    """An object where its photograph shows it.

    Attributes:
        background: (H, W, 3) uint8, the photograph, scaled and shifted.
        sprite: the object.
        size: geometric mean of the object's sides in the background, in pixels.
    """

    background: np.ndarray
    sprite: Sprite
    size: float


@dataclass(frozen=True)
class RealSprites:
    """A `SpriteSource` of the things in `materials`; what those lack, painted sprites and packages stand in for."""

    materials: Materials

    @cached_property
    def painted(self) -> PaintedSprites:
        """Objects painted from scratch."""
        return PaintedSprites("train")

    @cached_property
    def photographs(self) -> Sequence[np.ndarray]:
        """All photographs at hand."""
        return (*load_pictures(self.materials), *load_photographs("train"))

    @cached_property
    def shares(self) -> tuple[list[str], np.ndarray]:
        """The kinds that can be drawn, and how often."""
        there = {
            "object": bool(outlined_objects(self.materials)),
            "clipart": bool(clipart_files(self.materials)),
        }
        kinds = [kind for kind in _SHARES if there.get(kind, True)]
        shares = np.array([_SHARES[kind] for kind in kinds])
        return kinds, shares / shares.sum()

    @cached_property
    def categories(self) -> dict[int, list[Outlined]]:
        """Outlined objects by category."""
        found = defaultdict(list)
        for entry in outlined_objects(self.materials):
            found[entry.category].append(entry)
        return dict(found)

    @property
    def has_outlined(self) -> bool:
        """Whether there are photographs with outlined objects."""
        return bool(outlined_objects(self.materials))

    def draw(self, rng: Generator) -> Sprite:
        """A new object of any kind."""
        kinds, shares = self.shares
        kind = str(rng.choice(kinds, p=shares))
        if kind == "painted":
            return self.painted.draw(rng)
        if kind == "piece":
            return self._piece(rng)
        if kind == "clipart":
            return self._clipart(rng, int(rng.integers(len(clipart_files(self.materials)))))
        objects = outlined_objects(self.materials)
        return self._object(rng, objects[rng.integers(len(objects))])

    def look_alike(self, rng: Generator, sprite: Sprite) -> Sprite:
        """The same thing, often in other colours, or another of its category or folder."""
        if not isinstance(sprite.recipe, Origin):
            return self.painted.look_alike(rng, sprite)
        if rng.random() < 0.45:
            return recoloured(rng, sprite)
        if sprite.recipe.kind == "object":
            others = self.categories[sprite.recipe.group]
            return self._object(rng, others[rng.integers(len(others))])
        if sprite.recipe.kind == "clipart":
            return self._clipart(rng, sprite.recipe.group)
        return self._piece(rng)

    def bar(self, rng: Generator) -> Sprite:
        """A long, solid thing that hides what passes behind it."""
        return self.painted.bar(rng)

    def in_place(self, rng: Generator, size: float, canvas: tuple[int, int], centre: np.ndarray) -> InPlace:
        """A photograph with one of its outlined objects at `centre` of a picture (width, height), `size` pixels large.

        Photographs are neither much enlarged nor much reduced: the object may be of another size.
        """
        objects = outlined_objects(self.materials)
        entry = objects[rng.integers(len(objects))]
        image, mask = read_image(entry.path), _mask(entry)
        mask = mask[: image.shape[0], : image.shape[1]]
        rows, columns = np.flatnonzero(mask.max(axis=1) >= 128), np.flatnonzero(mask.max(axis=0) >= 128)
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        scale = float(np.clip(size / np.sqrt(width * height), 0.35, 2.2))
        middle = np.array((columns[0] + columns[-1], rows[0] + rows[-1])) / 2
        matrix = np.column_stack((scale * np.eye(2), centre - scale * middle))
        if scale < 0.7:  # else thin things would be lost between the pixels that are looked up
            image = cv2.GaussianBlur(image, (0, 0), 0.4 / scale)
        background = cv2.warpAffine(image, matrix, canvas, borderMode=cv2.BORDER_REFLECT_101)
        cut = np.dstack((image[: mask.shape[0], : mask.shape[1]], mask))
        sprite = Sprite.from_rgba(cut, "object", Origin("object", entry.category))
        return InPlace(background, sprite, scale * float(np.sqrt(width * height)))

    def _object(self, rng: Generator, entry: Outlined) -> Sprite:
        """Cut an object out of its photograph."""
        image, mask = read_image(entry.path), _mask(entry)
        x, y, width, height = entry.box
        part = slice(max(int(y) - 2, 0), int(y + height) + 3), slice(max(int(x) - 2, 0), int(x + width) + 3)
        mask = mask[: image.shape[0], : image.shape[1]][part]
        sprite = self._finish(rng, image[part][: mask.shape[0], : mask.shape[1]], mask, "object", entry.category)
        return sprite if sprite is not None else self._piece(rng)

    def _clipart(self, rng: Generator, folder: int) -> Sprite:
        """A picture of a folder; some are mere lines or fill their whole frame, and another is taken."""
        files = clipart_files(self.materials)[folder]
        for _ in range(10):
            rgba = cv2.imread(files[rng.integers(len(files))], cv2.IMREAD_UNCHANGED)
            if rgba is None or rgba.ndim != 3 or rgba.shape[2] != 4 or rgba.dtype != np.uint8:
                continue
            image, mask = cv2.cvtColor(rgba[..., :3], cv2.COLOR_BGR2RGB), np.ascontiguousarray(rgba[..., 3])
            sprite = self._finish(rng, image, mask, "clipart", folder, least=0.3, most=0.95)
            if sprite is not None:
                return sprite
        return self._piece(rng)

    def _piece(self, rng: Generator) -> Sprite:
        """A piece of a photograph in a random shape: anything may be an object."""
        image = photograph_piece(rng, self.photographs, _PIECE, _PIECE, (0.4, 1.4))
        if rng.random() < 0.25:
            image = recolour(rng, image)
        for _ in range(10):
            aspect = float(np.exp(np.clip(rng.normal(0, 0.4), -0.9, 0.9)))
            mask = mask_of(_PIECE / 2 + 0.42 * _PIECE * outline(rng, str(rng.choice(list(SHAPES))), aspect), _PIECE)
            sprite = self._finish(rng, image, mask, "piece", 0)
            if sprite is not None:
                return sprite
        return self.painted.draw(rng)

    def _finish(
        self, rng: Generator, image: np.ndarray, mask: np.ndarray, kind: str, group: int, least=0.2, most=1.0
    ) -> Sprite | None:
        """Scale, soften the rim, make the sprite; None where too much or too little of its box is solid."""
        scale = _SIDE / max(mask.shape)
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            mask = cv2.resize(mask, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_AREA)
        solid = mask >= 128
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        if len(rows) < 16 or len(columns) < 16:
            return None
        filled = solid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean()
        if not least <= filled <= most:
            return None
        if kind != "clipart":
            # Outlines run outside the object as often as inside: the rim would show another background.
            mask = cv2.erode(mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
        mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 1.4))
        if kind == "clipart" and rng.random() < 0.6:
            image = _weathered(rng, image)
        if not (mask >= 128).any():
            return None
        return Sprite.from_rgba(np.dstack((image, mask)), kind, Origin(kind, group))


@lru_cache(maxsize=1)
def real_sprites(materials: Materials) -> RealSprites:
    """The source of sprites of some materials, one for all scenes of a process."""
    return RealSprites(materials)


def _mask(entry: Outlined) -> np.ndarray:
    """(H, W) uint8 opacity of an outlined object; it ends some pixels beyond the object, perhaps beyond the image."""
    x, y, width, height = entry.box
    mask = np.zeros((int(y + height) + 8, int(x + width) + 8), np.uint8)
    for polygon in entry.polygons:
        points = np.round(np.array(polygon).reshape(-1, 2) * 16).astype(np.int32)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    return mask


def recoloured(rng: Generator, sprite: Sprite) -> Sprite:
    """The same picture with turned hues, a little or much; now and then as it is."""
    if rng.random() < 0.3:
        return sprite
    degrees = float(rng.normal(0, 40)) if rng.random() < 0.6 else float(rng.uniform(40, 320))
    return replace(sprite, levels=tuple(tint(level, degrees) for level in sprite.levels))


def _weathered(rng: Generator, image: np.ndarray) -> np.ndarray:
    """Uneven light and grain over flat colours, as real surfaces have them."""
    coarse = rng.normal(1, 0.18, (4, 4, 1)).astype(np.float32)
    light = cv2.resize(coarse, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(rng.normal(0, 1, image.shape[:2]).astype(np.float32), (0, 0), rng.uniform(0.6, 2.5))
    grain *= rng.uniform(2, 14) / max(float(grain.std()), 1e-6)
    return np.clip(image * light[..., None] + grain[..., None], 0, 255).astype(np.uint8)
