"""From a planned scene to pixels: layers of sprites over a moving background, then the camera's flaws."""

from dataclasses import dataclass

import cv2
import numpy as np

from lib.data.synthetic.motion import velocity
from lib.data.synthetic.objects import Sprite

# An object of which less than this part shows counts as absent.
ABSENT_BELOW = 0.02
_LONGEST_BLUR = 25.0  # pixels


@dataclass(frozen=True)
class Layer:
    """A sprite and how it moves; every array has one value per frame.

    Attributes:
        path: (T, 2) centre, xy in image pixels.
        size: (T,) geometric mean of the width and height of the unrotated object, in pixels.
        angle: (T,) in radians.
        stretch: (T,) logarithm of the factor on width / height.
        shear: (T,) horizontal shift per vertical pixel.
        bend: (T,) displacement of the middle against the ends, as a part of the extent.
        gain: (T,) brightness.
        mirrored: left and right exchanged.
        sway: (T, 4) or None; each row and column is shifted along itself by a wave once round the picture: the
            sine's and cosine's parts of the shift of rows, then of columns, as parts of the extent.
    """

    sprite: Sprite
    path: np.ndarray
    size: np.ndarray
    angle: np.ndarray
    stretch: np.ndarray
    shear: np.ndarray
    bend: np.ndarray
    gain: np.ndarray
    mirrored: bool = False
    sway: np.ndarray | None = None

    def to_image(self, t: int) -> np.ndarray:
        """(2, 2) matrix from the sprite's full-size pixels to image pixels at frame `t`, about the centres."""
        width, height = self.sprite.extent
        scale = self.size[t] / np.sqrt(width * height)
        stretch = np.exp(self.stretch[t] / 2)
        cos, sin = np.cos(self.angle[t]), np.sin(self.angle[t])
        form = np.array(((stretch, self.shear[t] / stretch), (0, 1 / stretch)))
        flip = np.diag((-1.0 if self.mirrored else 1.0, 1.0))
        return scale * np.array(((cos, -sin), (sin, cos))) @ form @ flip

    def reach(self) -> np.ndarray:
        """(T,) radius in pixels of a circle that holds the object."""
        width, height = self.sprite.extent
        half = 0.5 * np.hypot(width, height) / np.sqrt(width * height)
        swayed = 0 if self.sway is None else np.abs(self.sway).max(axis=1)
        deformed = 1 + np.abs(self.shear) + 2 * np.abs(self.bend) + 2 * swayed
        return self.size * half * np.exp(np.abs(self.stretch) / 2) * deformed


@dataclass(frozen=True)
class Optics:
    """The camera's flaws.

    Attributes:
        shutter: part of the time between frames that the shutter is open (motion blur).
        defocus: (T,) deviation of the blur in pixels.
        gain: (T, 3) brightness per RGB channel.
        gamma: (T,) exponent on brightness.
        noise: int16 picture larger than the frames, of which every frame adds another part.
        noise_corner: (T, 2) xy of that part.
    """

    shutter: float
    defocus: np.ndarray
    gain: np.ndarray
    gamma: np.ndarray
    noise: np.ndarray
    noise_corner: np.ndarray


@dataclass(frozen=True)
class Frame:
    """One rendered frame.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        box: (4,) xywh in pixels: extent of the object's own mask within the image, whatever
            stands before it; zeros where no part of it is within the image.
        visible_ratio: part of the object's area that is within the image and not covered, 0..1.
        cut: the object reaches beyond the image.
    """

    image: np.ndarray
    box: np.ndarray
    visible_ratio: float
    cut: bool

    @property
    def absent(self) -> bool:
        """The object does not show."""
        return self.visible_ratio < ABSENT_BELOW


@dataclass(frozen=True)
class Scene:
    """A planned sequence.

    Attributes:
        size: width and height of the frames.
        background: (H, W, 3) uint8 picture larger than the frames.
        camera: (T, 2, 3) from background pixels to image pixels.
        behind: layers behind the target, the furthest first.
        target: the object to follow.
        before: layers in front of it, the furthest first.
        optics: what the camera adds.
        jpeg_quality: with which the frames are to be written.
        in_place: the target is a part of the background, which its layer follows and is not drawn over.
        step: of so many planned frames one, the first, is a frame of the sequence.
    """

    size: tuple[int, int]
    background: np.ndarray
    camera: np.ndarray
    behind: tuple[Layer, ...]
    target: Layer
    before: tuple[Layer, ...]
    optics: Optics
    jpeg_quality: int
    in_place: bool = False
    step: int = 1

    def __len__(self) -> int:
        return len(self.camera) // self.step

    def render(self, number: int) -> Frame:
        """Frame `number`, counted from 0."""
        t = number * self.step
        width, height = self.size
        image = cv2.warpAffine(self.background, self.camera[t], (width, height), borderMode=cv2.BORDER_REFLECT_101)
        image = _blur_along(image, self._pan(t) * self.optics.shutter)
        for layer in self.behind:
            _lay(image, *self._smeared(layer, t))
        sharp, corner = sprite_patch(self.target, t)
        mask = np.ascontiguousarray(sharp[..., 3])
        uncovered = mask.copy()
        if not self.in_place:
            _lay(image, *_smear(sharp, corner, _step(self.target.path, t) * self.optics.shutter))
        for layer in self.before:
            patch, place = self._smeared(layer, t)
            _lay(image, patch, place)
            _cover(uncovered, corner, patch[..., 3], place)
        box = _extent(mask, corner, self.size)
        total = float(mask.sum(dtype=np.int64))
        shown = float(_inside(uncovered, corner, self.size).sum(dtype=np.int64))
        within = float(_inside(mask, corner, self.size).sum(dtype=np.int64))
        ratio = shown / total if box[2] > 0 else 0.0
        return Frame(self._expose(image, t), box, ratio, within < total)

    def _smeared(self, layer: Layer, t: int) -> tuple[np.ndarray, tuple[int, int]]:
        """The patch of a layer with its motion blur, and the xy of its corner."""
        return _smear(*sprite_patch(layer, t), _step(layer.path, t) * self.optics.shutter)

    def _pan(self, t: int) -> np.ndarray:
        """(2,) movement of the background at the image's centre, in pixels a frame."""
        other = t - 1 if t else min(1, len(self.camera) - 1)
        middle = np.array((*self.size, 2)) / 2
        now = np.linalg.solve(self.camera[t, :, :2], middle[:2] - self.camera[t, :, 2])
        return np.sign(t - other) * (middle[:2] - self.camera[other, :, :2] @ now - self.camera[other, :, 2])

    def _expose(self, image: np.ndarray, t: int) -> np.ndarray:
        """Defocus, light and sensor noise."""
        optics = self.optics
        if optics.defocus[t] > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), float(optics.defocus[t]))
        ramp = (np.arange(256) / 255.0) ** optics.gamma[t]
        table = np.clip(255 * ramp[:, None] * optics.gain[t], 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table[None])
        (x, y), (width, height) = optics.noise_corner[t], self.size
        return cv2.add(image, optics.noise[y : y + height, x : x + width], dtype=cv2.CV_8U)


def sprite_patch(layer: Layer, t: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Render one sprite, sharp, on a patch of its own that may reach beyond the image.

    Returns:
        The patch (h, w, 4) uint8 RGBA with premultiplied colours, and the xy of its top-left pixel in the image.
    """
    matrix = layer.to_image(t)
    level, factor = _level_for(layer.sprite, matrix)
    matrix = matrix / factor
    rows, columns = level.shape[:2]
    sway = None if layer.sway is None else layer.sway[t].astype(np.float32)
    bulge = abs(layer.bend[t]) + (0 if sway is None else np.hypot(sway[0::2], sway[1::2]).max())
    span = np.abs(matrix) @ np.array((columns, rows)) * (0.5 + bulge)
    low = np.floor(layer.path[t] - span).astype(int) - 1
    high = np.ceil(layer.path[t] + span).astype(int) + 2
    width, height = (high - low).tolist()
    back = np.linalg.inv(matrix)
    offset = np.array((columns - 1, rows - 1)) / 2 - back @ (layer.path[t] - low)
    back, offset = back.astype(np.float32), offset.astype(np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    u = back[0, 0] * x + (back[0, 1] * y + offset[0])
    v = back[1, 0] * x + (back[1, 1] * y + offset[1])
    if columns >= rows:
        v += np.float32(layer.bend[t] * rows) * np.cos(u * np.float32(2 * np.pi / columns))
    else:
        u += np.float32(layer.bend[t] * columns) * np.cos(v * np.float32(2 * np.pi / rows))
    if sway is not None:
        along, across = u * np.float32(2 * np.pi / columns), v * np.float32(2 * np.pi / rows)
        u = u + np.float32(columns) * (sway[0] * np.sin(across) + sway[1] * np.cos(across))
        v = v + np.float32(rows) * (sway[2] * np.sin(along) + sway[3] * np.cos(along))
    patch = cv2.remap(level, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0, 0))
    gain = layer.gain[t]
    if abs(gain - 1) > 0.01:
        # A colour above its alpha would shine through the rim, so brightening stops at full white.
        lit = cv2.convertScaleAbs(patch, alpha=gain)
        alpha = cv2.merge((patch[..., 3],) * 4)
        patch = cv2.min(lit, alpha) if gain > 1 else lit
        patch[..., 3] = alpha[..., 0]
    return patch, (int(low[0]), int(low[1]))


def lay_sprite(image: np.ndarray, layer: Layer, t: int) -> None:
    """Draw a layer's sprite, sharp, over an (H, W, 3) uint8 image in place."""
    _lay(image, *sprite_patch(layer, t))


def _level_for(sprite: Sprite, matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """The smallest picture that still has a pixel per image pixel, and its scale to full size."""
    shrink = np.sqrt(abs(np.linalg.det(matrix)))
    index = 0
    while index + 1 < len(sprite.levels) and shrink <= 0.5 ** (index + 1):
        index += 1
    return sprite.levels[index], sprite.levels[index].shape[1] / sprite.levels[0].shape[1]


def _smear(patch: np.ndarray, corner: tuple[int, int], step: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Blur a patch along a movement `step` (2,) in pixels; it grows by what the blur needs."""
    margin = int(np.ceil(min(np.linalg.norm(step), _LONGEST_BLUR) / 2)) + 1
    if margin == 1:
        return patch, corner
    patch = cv2.copyMakeBorder(patch, *(margin,) * 4, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    return _blur_along(patch, step), (corner[0] - margin, corner[1] - margin)


def _lay(image: np.ndarray, patch: np.ndarray, corner: tuple[int, int]) -> None:
    """Lay a premultiplied RGBA patch over the image in place."""
    inside = _inside(patch, corner, (image.shape[1], image.shape[0]))
    if inside.size:
        x, y = max(corner[0], 0), max(corner[1], 0)
        region = image[y : y + inside.shape[0], x : x + inside.shape[1]]
        rest = 255 - inside[..., 3]
        dimmed = cv2.multiply(region, cv2.merge((rest, rest, rest)), scale=1 / 255)
        region[:] = cv2.add(dimmed, np.ascontiguousarray(inside[..., :3]))


def _step(path: np.ndarray, t: int) -> np.ndarray:
    """Movement at frame `t`, in pixels a frame."""
    start = max(t - 1, 0)
    return velocity(path[start : t + 2])[t - start]


def _blur_along(image: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Blur along a straight movement `step` (2,), in pixels, that the exposure lasts; centred."""
    length = float(np.linalg.norm(step))
    if length < 1.5:
        return image
    step = step * min(1.0, _LONGEST_BLUR / length)
    half = int(np.ceil(np.abs(step).max() / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
    ends = [np.round((half + sign * step / 2) * 16).astype(int).tolist() for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
    return cv2.filter2D(image, -1, kernel.astype(np.float32) / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _inside(patch: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The part of a patch that lies within an image of `size`; a view, perhaps empty."""
    (left, top), (width, height) = corner, size
    return patch[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]


def _cover(uncovered: np.ndarray, corner: tuple[int, int], alpha: np.ndarray, place: tuple[int, int]) -> None:
    """Take from `uncovered`, a mask at `corner`, in place what an `alpha` at `place` hides."""
    dx, dy = place[0] - corner[0], place[1] - corner[1]
    rows, columns = uncovered.shape
    part = _inside(alpha, (dx, dy), (columns, rows))
    if part.size:
        region = uncovered[max(dy, 0) : max(dy, 0) + part.shape[0], max(dx, 0) : max(dx, 0) + part.shape[1]]
        region[:] = cv2.multiply(region, 255 - part, scale=1 / 255)


def _extent(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """xywh of the pixels within the image that the object covers by half or more; zeros where there are none."""
    solid = _inside(mask, corner, size) >= 128
    columns, rows = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
    if not len(columns):
        return np.zeros(4)
    left, top = max(corner[0], 0) + columns[0], max(corner[1], 0) + rows[0]
    return np.array((left, top, columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1), dtype=np.float64)
