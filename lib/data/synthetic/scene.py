"""From a planned scene to pixels: sprites over a moving background, then blur, light and noise of the camera."""

from dataclasses import dataclass

import cv2
import numpy as np

from .pictures import solid_box
from .sprites import Sprite

_LONGEST_BLUR = 25.0  # pixels


@dataclass(frozen=True)
class Layer:
    """A sprite and its motion; every array has one value per frame."""

    sprite: Sprite
    path: np.ndarray  # (T, 2) centre, xy in image pixels
    size: np.ndarray  # (T,) geometric mean of the width and height of the unrotated object, in pixels
    angle: np.ndarray  # (T,) in radians
    stretch: np.ndarray  # (T,) logarithm of the factor on width / height
    # (T, 4) elastic deformation: rows and columns shift along themselves by a wave once round the picture; sine and
    # cosine part of the shift of rows, then of columns, as parts of the extent.
    sway: np.ndarray

    @staticmethod
    def rigid(sprite: Sprite, path: np.ndarray, size: np.ndarray, angle: np.ndarray) -> "Layer":
        """A layer that does not deform."""
        return Layer(sprite, path, size, angle, stretch=np.zeros(len(size)), sway=np.zeros((len(size), 4)))

    def reach(self) -> np.ndarray:
        """(T,) radius in pixels of a circle that holds the object."""
        half = 0.5 * np.hypot(*self.sprite.extent) / np.sqrt(np.prod(self.sprite.extent))
        return self.size * half * np.exp(np.abs(self.stretch) / 2) * (1 + 2 * np.abs(self.sway).max(axis=1))

    def patch(self, t: int, shutter: float = 0.0) -> tuple[np.ndarray, tuple[int, int]]:
        """Render the sprite at frame `t`, with motion blur, on a patch that may reach beyond the image.

        Gives the patch (h, w, 4) uint8 RGBA with premultiplied colours, and the xy of its top-left pixel in the image.
        """
        scale = self.size[t] / np.sqrt(np.prod(self.sprite.extent))
        # The smallest level that still has a pixel per image pixel.
        halvings = int(np.clip(-np.log2(scale), 0, len(self.sprite.levels) - 1))
        level, scale = self.sprite.levels[halvings], scale * 2**halvings
        cos, sin, stretch = np.cos(self.angle[t]), np.sin(self.angle[t]), np.exp(self.stretch[t] / 2)
        matrix = scale * np.array(((cos, -sin), (sin, cos))) @ np.diag((stretch, 1 / stretch))  # level to image
        rows, columns = level.shape[:2]
        sway = self.sway[t].astype(np.float32)
        span = np.abs(matrix) @ np.array((columns, rows)) * (0.5 + np.hypot(sway[0::2], sway[1::2]).max())
        low = np.floor(self.path[t] - span).astype(int) - 1
        width, height = (np.ceil(self.path[t] + span).astype(int) + 2 - low).tolist()
        back = np.linalg.inv(matrix)
        offset = np.array((columns - 1, rows - 1)) / 2 - back @ (self.path[t] - low)
        back, offset = back.astype(np.float32), offset.astype(np.float32)
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        u = back[0, 0] * x + (back[0, 1] * y + offset[0])
        v = back[1, 0] * x + (back[1, 1] * y + offset[1])
        if sway.any():
            along, across = u * np.float32(2 * np.pi / columns), v * np.float32(2 * np.pi / rows)
            u = u + np.float32(columns) * (sway[0] * np.sin(across) + sway[1] * np.cos(across))
            v = v + np.float32(rows) * (sway[2] * np.sin(along) + sway[3] * np.cos(along))
        patch = cv2.remap(level, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        step = _step_at(self.path, t) * shutter
        margin = int(np.ceil(min(np.linalg.norm(step), _LONGEST_BLUR) / 2)) + 1 if step.any() else 0
        patch = _blur_along(cv2.copyMakeBorder(patch, *(margin,) * 4, cv2.BORDER_CONSTANT), step)
        return patch, (int(low[0]) - margin, int(low[1]) - margin)


def anchored(camera: np.ndarray, t: int, place: np.ndarray) -> np.ndarray:
    """(T, 2) path in the image of the spot of the background that frame `t` shows at `place`, xy in image pixels."""
    spot = np.linalg.solve(camera[t, :, :2], place - camera[t, :, 2])
    return camera[:, :, :2] @ spot + camera[:, :, 2]


@dataclass(frozen=True)
class Optics:
    """Flaws of the camera."""

    shutter: float  # part of the time between frames in which the shutter is open (motion blur)
    defocus: np.ndarray  # (T,) deviation of the blur in pixels
    gain: np.ndarray  # (T, 3) brightness per RGB channel
    noise: np.ndarray  # int16 picture larger than the frames; every frame adds another part of it
    corner: np.ndarray  # (T, 2) xy of that part

    def expose(self, image: np.ndarray, t: int) -> np.ndarray:
        """Defocus, light and sensor noise."""
        if self.defocus[t] > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), float(self.defocus[t]))
        table = np.clip(np.arange(256)[:, None] * self.gain[t], 0, 255).astype(np.uint8)
        x, y = self.corner[t]
        noise = self.noise[y : y + image.shape[0], x : x + image.shape[1]]
        return cv2.add(cv2.LUT(image, table[None]), noise, dtype=cv2.CV_8U)


@dataclass(frozen=True)
class Frame:
    """One rendered frame."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    box: np.ndarray  # (4,) xywh in pixels: extent within the image, also behind others; zeros out of the image
    visible_ratio: float  # part of the object that is within the image and not covered, 0..1
    cut: bool  # the object reaches beyond the image

    @property
    def absent(self) -> bool:
        return self.visible_ratio < 0.02


@dataclass(frozen=True)
class Scene:
    """A planned sequence."""

    size: tuple[int, int]  # width and height of the frames
    background: np.ndarray  # picture (H, W, 3) uint8 larger than the frames
    camera: np.ndarray  # (T, 2, 3) matrices from its pixels to the image's
    behind: tuple[Layer, ...]  # layers behind the target, the furthest first
    target: Layer
    before: tuple[Layer, ...]  # layers in front of it, the furthest first
    optics: Optics
    jpeg_quality: int
    step: int  # one of so many planned frames is a frame of the sequence

    def __len__(self) -> int:
        return len(self.target.path) // self.step

    def render(self, number: int) -> Frame:
        """Frame `number`, counted from 0."""
        t, shutter = number * self.step, self.optics.shutter
        image = cv2.warpAffine(self.background, self.camera[t], self.size, borderMode=cv2.BORDER_REFLECT_101)
        image = _blur_along(image, _step_at(anchored(self.camera, t, np.array(self.size) / 2), t) * shutter)
        for layer in (*self.behind, self.target):
            lay(image, *layer.patch(t, shutter))
        patch, (left, top) = self.target.patch(t)
        mask = np.ascontiguousarray(patch[..., 3])
        uncovered = cv2.merge((mask, mask, mask))
        for layer in self.before:
            patch, (x, y) = layer.patch(t, shutter)
            lay(image, patch, (x, y))
            patch[..., :3] = 0
            lay(uncovered, patch, (x - left, y - top))
        inside, shown = (_inside(part, (left, top), self.size) for part in (mask, uncovered[..., 0]))
        x, y, width, height = solid_box(inside) if inside.size else (0, 0, 0, 0)
        box = np.array((max(left, 0) + x, max(top, 0) + y, width, height), np.float64) * (width > 0)
        total, within, visible = (float(part.sum(dtype=np.int64)) for part in (mask, inside, shown))
        return Frame(self.optics.expose(image, t), box, visible / total if width else 0.0, within < total)


def lay(image: np.ndarray, patch: np.ndarray, corner: tuple[int, int]) -> None:
    """Lay a premultiplied RGBA patch over the image in place."""
    inside = _inside(patch, corner, (image.shape[1], image.shape[0]))
    if inside.size:
        x, y = max(corner[0], 0), max(corner[1], 0)
        region = image[y : y + inside.shape[0], x : x + inside.shape[1]]
        rest = 255 - inside[..., 3]
        dimmed = cv2.multiply(region, cv2.merge((rest, rest, rest)), scale=1 / 255)
        region[:] = cv2.add(dimmed, np.ascontiguousarray(inside[..., :3]))


def _inside(patch: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The part of a patch that lies within an image of `size`; a view, perhaps empty."""
    (left, top), (width, height) = corner, size
    return patch[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]


def _step_at(path: np.ndarray, t: int) -> np.ndarray:
    """Movement of a path (T, 2) at frame `t`, in pixels a frame."""
    first, last = max(t - 1, 0), min(t + 1, len(path) - 1)
    return (path[last] - path[first]) / max(last - first, 1)


def _blur_along(image: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Blur along a straight movement `step` (2,) in pixels; centred."""
    length = float(np.linalg.norm(step))
    if length < 1.5:
        return image
    step = step * min(1.0, _LONGEST_BLUR / length)
    half = int(np.ceil(np.abs(step).max() / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
    ends = [np.round((half + sign * step / 2) * 16).astype(int).tolist() for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
    return cv2.filter2D(image, -1, kernel.astype(np.float32) / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
