"""Planning a sequence: motion of the target and its companions, obstacles, background and camera."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator

from .pictures import photograph_piece, shift_hue
from .scene import Layer, Optics, Scene, anchored, lay
from .sprites import Sprite, SpriteSource

_CLEAR = 8  # no occluder reaches the target before this frame


@dataclass(frozen=True)
class SceneKind:
    """Parameters of scenes; where several values stand, each scene or object gets one of them; sizes are (w, h)."""

    sizes: tuple[tuple[int, int], ...] = ((320, 240), (320, 240), (360, 240), (320, 180), (240, 320), (280, 280))
    canvas: float = 1.6  # width of the background / width of the frame
    target: tuple[float, float] = (0.1, 0.36)  # range of its size, as a part of the image's side
    limits: tuple[float, float] = (16, 0.4)  # least size in pixels, greatest as a part of the image's shorter side
    companions: tuple[float, ...] = (0.25, 0.25, 0.2, 0.2, 0.1)  # chances of 0, 1, 2 … other moving objects
    obstacles: tuple[float, ...] = (0.3, 0.35, 0.25, 0.1)  # chances of 0, 1, 2 … that the target passes behind
    together: float = 0.0  # chance that a companion goes along with the target
    spins: tuple[float, float, float] = (0.35, 0.4, 0.25)  # chances that an object stays upright, sways, spins
    sway: tuple[float, ...] = (0.0, 0.015, 0.05)  # deviation of the elastic deformation
    pans: tuple[float, ...] = (0.0, 0.04, 0.1, 0.16)  # deviation of the camera's pan, as a part of the image's side
    shakes: tuple[float, ...] = (0.0, 0.6, 2.0)  # deviation of the camera's shake in pixels
    leaves: float = 0.12  # chance that the target leaves the image for a while
    photograph: float = 0.35  # chance that the background is one plain photograph
    step: int = 1  # one of so many planned frames is rendered


PLAIN = SceneKind()
CROWDED = SceneKind(
    sizes=((480, 360), (480, 270), (400, 300), (360, 360), (320, 240), (270, 480)),
    canvas=1.8,
    target=(0.035, 0.6),
    limits=(11, 0.95),
    companions=(0.12, 0.16, 0.2, 0.2, 0.16, 0.1, 0.06),
    obstacles=(0.35, 0.35, 0.2, 0.1),
    together=0.5,
    spins=(0.6, 0.32, 0.08),
    sway=(0.0, 0.02, 0.05, 0.08),
    pans=(0.04, 0.1, 0.2, 0.3),
    shakes=(0.0, 0.8, 3.0),
    leaves=0.05,
    photograph=0.8,
    step=4,
)


class Planner:
    """Plans one sequence of so many rendered `frames`; `rng` decides everything.

    Arrays have one value per planned frame, of which `kind.step` make a rendered one. `size` is width and height of the
    frames; None takes one of the kind's sizes.
    """

    def __init__(
        self, rng: Generator, kind: SceneKind, sprites: SpriteSource, frames: int, size: tuple[int, int] | None
    ) -> None:
        self.rng, self.kind, self.sprites = rng, kind, sprites
        self.size = size or kind.sizes[rng.integers(len(kind.sizes))]
        self.frames = frames * kind.step
        self.side = float(np.sqrt(self.size[0] * self.size[1]))
        self.canvas = tuple(int(kind.canvas * side) for side in self.size)
        self.shake = rng.choice(kind.shakes) * self.noises(3, 2)

    def plan(self) -> Scene:
        rng, kind = self.rng, self.kind
        camera = self.camera()
        target = self.target()
        background = self.paint_background(target.sprite)
        behind, before = [], []
        for _ in range(self.count(kind.companions)):
            layer = self.companion(target)
            (before if rng.random() < 0.4 and _clear(layer, target) else behind).append(layer)
        obstacles = [self.obstacle(target, camera) for _ in range(self.count(kind.obstacles))]
        before += [layer for layer in obstacles if _clear(layer, target)]
        optics, quality = self.optics(), int(rng.integers(45, 96))
        return Scene(self.size, background, camera, tuple(behind), target, tuple(before), optics, quality, kind.step)

    def noise(self, period: float) -> np.ndarray:
        """A random signal (T,) of zero mean and unit deviation that varies over about `period` frames."""
        offsets = np.arange(-int(np.ceil(1.5 * period)), int(np.ceil(1.5 * period)) + 1)
        kernel = np.exp(-0.5 * (offsets / (period / 2)) ** 2)
        values = self.rng.normal(size=self.frames + len(offsets) - 1)
        return np.convolve(values, kernel / np.sqrt((kernel**2).sum()), mode="valid")

    def noises(self, period: float, count: int) -> np.ndarray:
        return np.stack([self.noise(period) for _ in range(count)], axis=-1)

    def count(self, chances: tuple[float, ...]) -> int:
        return int(self.rng.choice(len(chances), p=chances))

    def camera(self) -> np.ndarray:
        """(T, 2, 3) from background to image: pan, zoom and a slight roll about the middle, and the shake."""
        rng, period = self.rng, self.rng.uniform(15, 40)
        pan = self.side * rng.choice(self.kind.pans) * self.noises(period, 2)
        zoom = np.exp(rng.choice((0.0, 0.1)) * self.noise(30) + rng.uniform(-0.2, 0.2))
        roll = rng.choice((0.0, 2.5)) * self.noise(25)
        middle = (self.canvas[0] / 2, self.canvas[1] / 2)
        camera = np.stack([cv2.getRotationMatrix2D(middle, float(roll[t]), float(zoom[t])) for t in range(self.frames)])
        camera[:, :, 2] += pan + self.shake + (np.array(self.size) - self.canvas) / 2
        return camera

    def target(self) -> Layer:
        """The object to follow: begins wholly within the image, wanders, perhaps leaves it for a while."""
        rng, size = self.rng, np.array(self.size)
        layer = self.moving(self.sprites.make(rng), self.side * np.exp(rng.uniform(*np.log(self.kind.target))))
        reach = np.minimum(layer.reach()[0] + 2, size / 2)
        path = self.wander(rng.uniform(reach, size - reach + 1e-6), layer, 0.4)
        if rng.random() < self.kind.leaves and self.frames >= 24:
            middle, far = int(rng.integers(self.frames // 3, self.frames)), float(layer.reach().max()) + 2
            x, y = path[middle]
            exits = np.array(((-far, y), (size[0] + far, y), (x, -far), (x, size[1] + far)))
            nearest = exits[np.argmin(np.linalg.norm(exits - path[middle], axis=1))]
            path = _excursion(path, middle, int(rng.integers(1, 5)) * self.kind.step, nearest, 0.3 * layer.size[0])
        path[1:] += self.shake[1:] - self.shake[0]
        return replace(layer, path=path)

    def companion(self, target: Layer) -> Layer:
        """Another moving object, mostly a look-alike, which goes along with the target or often comes close to it."""
        rng = self.rng
        sprite = self.sprites.look_alike(rng, target.sprite) if rng.random() < 0.75 else self.sprites.make(rng)
        layer = self.moving(sprite, target.size[0] * np.exp(rng.normal(0, 0.25)))
        if rng.random() < self.kind.together:
            angle = rng.uniform(0, 2 * np.pi) + rng.uniform(0, 0.8) * self.noise(25)
            gap = 0.5 * (layer.size + target.size) * np.exp(0.3 * self.noise(20)) * rng.uniform(0.6, 1.8)
            path = target.path + gap[:, None] * np.stack((np.cos(angle), 0.7 * np.sin(angle)), axis=-1)
            return replace(layer, path=path)
        path = self.wander(rng.uniform(0, self.size), layer, 0.2)
        if rng.random() < 0.6 and self.frames > _CLEAR:
            t, angle = int(rng.integers(_CLEAR, self.frames)), rng.uniform(0, 2 * np.pi)
            gap = rng.uniform(0.3, 1.3) * (layer.size[t] + target.size[t]) / 2
            path = _excursion(path, t, 1, target.path[t] + gap * np.array((np.cos(angle), np.sin(angle))), gap / 4)
        return replace(layer, path=path + self.shake)

    def obstacle(self, target: Layer, camera: np.ndarray) -> Layer:
        """Something before the target that meets it once: fixed to the background, or drifting past a slow target."""
        rng, frames = self.rng, self.frames
        t = int(rng.integers(min(_CLEAR + 4, frames - 1), frames))
        post = rng.random() < 0.4
        sprite = self.sprites.bar(rng) if post else self.sprites.make(rng)
        size = target.size[t] * (rng.uniform(1.6, 2.6) if post else rng.uniform(0.7, 1.5))
        step = np.gradient(target.path, axis=0)[t]
        speed = float(np.linalg.norm(step))
        direction = -step / speed if speed > 1e-6 else np.array((1.0, 0.0))
        drift = max(0.0, rng.uniform(0.15, 0.3) * target.size[t] - speed)
        path = anchored(camera, t, target.path[t]) + (np.arange(frames) - t)[:, None] * drift * direction
        angle = rng.normal(0, 0.08) if post else rng.uniform(-0.5, 0.5)
        if post and abs(direction[0]) < abs(direction[1]):
            angle += np.pi / 2
        return Layer.rigid(sprite, path, np.full(frames, size), np.full(frames, angle))

    def moving(self, sprite: Sprite, size: float) -> Layer:
        """A layer, still without a path, that is `size` pixels at first and changes size, turns and deforms."""
        rng, kind = self.rng, self.kind
        growth = rng.uniform(0.05, 0.35) * self.noise(rng.uniform(15, 40))
        spin = self.count(kind.spins)
        if spin == 2:
            angle = np.cumsum(np.deg2rad(rng.uniform(-5, 5) + 2 * self.noise(10))) + rng.uniform(0, 2 * np.pi)
        else:
            angle = (0.06, 0.35)[spin] * self.noise(rng.uniform(8, 20))
        waves = np.clip(self.noises(rng.uniform(5, 20), 4), -2, 2)
        return Layer(
            sprite=sprite,
            path=np.zeros((self.frames, 2)),
            size=np.clip(size * np.exp(growth - growth[0]), kind.limits[0], kind.limits[1] * min(self.size)),
            angle=angle,
            stretch=rng.uniform(0, 0.3) * np.clip(self.noise(15), -2, 2),
            sway=rng.choice(kind.sway) * waves,
        )

    def wander(self, start: np.ndarray, layer: Layer, inset: float) -> np.ndarray:
        """A path (T, 2) in pixels from `start` that keeps `inset` of the object's size away from the borders."""
        rng = self.rng
        low, high = ((0.01, 0.04), (0.04, 0.14), (0.14, 0.35))[rng.choice(3, p=(0.35, 0.47, 0.18))]
        speed = max(min(rng.uniform(low, high) * float(layer.size[0]), 0.045 * self.side), 0.4)
        speeds = speed * np.exp(rng.uniform(0.1, 0.5) * self.noise(8))
        turns = rng.normal(0, rng.uniform(0.05, 0.3), self.frames)
        turns += (rng.random(self.frames) < rng.choice((0.0, 0.04))) * rng.uniform(-3, 3, self.frames)
        heading = rng.uniform(0, 2 * np.pi)
        path = np.empty((self.frames, 2))
        path[0] = start
        for t in range(1, self.frames):
            heading += turns[t]
            step = speeds[t] * np.array((np.cos(heading), np.sin(heading)))
            border = np.minimum(inset * layer.size[t], np.array(self.size) / 2)
            place = path[t - 1] + step
            outward = ((place < border) & (step < 0)) | ((place > self.size - border) & (step > 0))
            step = np.where(outward, -step, step)
            heading = np.arctan2(step[1], step[0])
            path[t] = path[t - 1] + step
        return path

    def paint_background(self, target: Sprite) -> np.ndarray:
        """A photograph or another material; with still things in it, some like the target."""
        rng, (width, height) = self.rng, self.canvas
        if rng.random() < self.kind.photograph:
            image = photograph_piece(rng, self.sprites.photographs, height, width, (0.6, 2.2))
        else:
            image = self.sprites.material(rng, height, width)
        if rng.random() < 0.2:
            image = shift_hue(image, rng.uniform(0, 360), rng.uniform(0.5, 1.25), rng.uniform(0.75, 1.2))
        image = np.ascontiguousarray(image)
        for _ in range(int(rng.choice((0, 0, 2, 5)))):
            sprite = self.sprites.look_alike(rng, target) if rng.random() < 0.3 else self.sprites.make(rng)
            size = np.sqrt(width * height) * rng.uniform(0.03, 0.2, 1)
            spot = rng.uniform(0, (width, height))[None]
            lay(image, *Layer.rigid(sprite, spot, size, rng.normal(0, 0.4, 1)).patch(0))
        contrast = rng.uniform(0.55, 1.0)
        image = cv2.convertScaleAbs(image, alpha=contrast, beta=rng.uniform(0, 1 - contrast) * 200)
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 2.5)) if rng.random() < 0.35 else image

    def optics(self) -> Optics:
        """Motion blur, defocus, changing light, noise; each sequence has some of them."""
        rng, frames, (width, height) = self.rng, self.frames, self.size
        light = rng.uniform(0, 0.15) * self.noise(rng.uniform(4, 25)) + rng.normal(0, 0.1)
        if rng.random() < 0.15:  # a sudden change
            light += rng.uniform(-0.4, 0.4) * (np.arange(frames) >= rng.integers(4, frames + 4))
        noise = rng.choice((0.0, 2.0, 5.0, 9.0), p=(0.25, 0.4, 0.25, 0.1))
        grain = noise * rng.standard_normal((height + 48, width + 48, 3), dtype=np.float32)
        return Optics(
            shutter=float(rng.choice((0.0, rng.uniform(0.2, 0.8)), p=(0.35, 0.65))),
            defocus=rng.uniform(0, 0.8) + rng.choice((0.0, 0.6)) * self.noise(10),
            gain=np.clip(np.exp(light[:, None] + rng.normal(0, 0.04, 3)), 0.4, 1.7),
            noise=grain.round().astype(np.int16),
            corner=rng.integers(0, 48, (frames, 2)),
        )


def _excursion(path: np.ndarray, middle: int, hold: int, goal: np.ndarray, speed: float) -> np.ndarray:
    """Bend a path (T, 2) so that it visits `goal` (2,) for `hold` frames around frame `middle`, at an extra `speed`.

    The visit is later where `middle` is too early to get there: frame 0 stays where it is.
    """
    offset = goal - path[middle]
    ramp = max(4.0, float(np.linalg.norm(offset)) / speed)
    middle = max(middle, int(np.ceil(hold / 2 + ramp)))
    away = np.abs(np.arange(len(path)) - middle) - hold / 2
    weight = 0.5 + 0.5 * np.cos(np.pi * np.clip(away / ramp, 0, 1))
    return path + weight[:, None] * offset


def _clear(layer: Layer, target: Layer) -> bool:
    """Whether a layer stays off the target during the first frames."""
    first = slice(0, _CLEAR // 2)
    distance = np.linalg.norm(layer.path[first] - target.path[first], axis=1)
    return bool((distance > layer.reach()[first] + target.reach()[first]).all())
