"""Planning a sequence: who moves where, what hides the target, how the camera behaves."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator

from lib.data.synthetic.backgrounds import paint_background
from lib.data.synthetic.motion import Pace, excursion, smooth_noise, velocity, wander
from lib.data.synthetic.objects import Sprite, SpriteSource
from lib.data.synthetic.photographs import Split, load_photographs
from lib.data.synthetic.render import Layer, Optics, Scene

SIZES = ((320, 240), (320, 240), (360, 240), (320, 180), (240, 320), (280, 280))

_SMALLEST = 16.0  # pixels
_LARGEST = 0.4  # of the image's shorter side
_CANVAS = 1.6  # background to frame
_CLEAR = 8  # no occluder reaches the target earlier


@dataclass(frozen=True)
class Stage:
    """What the parts of a plan share.

    Attributes:
        frames: number of frames.
        size: width and height of the image in pixels.
        shake: (T, 2) unsteadiness of the camera, which moves everything alike.
        sprites: where objects come from.
    """

    frames: int
    size: tuple[int, int]
    shake: np.ndarray
    sprites: SpriteSource

    @property
    def side(self) -> float:
        """Geometric mean of the image's sides, in pixels."""
        return float(np.sqrt(self.size[0] * self.size[1]))


def plan_scene(
    rng: Generator, sprites: SpriteSource, split: Split, frames: int, size: tuple[int, int] | None = None
) -> Scene:
    """Plan a sequence.

    Args:
        rng: decides everything.
        sprites: where the objects come from.
        split: whose photographs the background is made of.
        frames: number of frames, at least 1.
        size: width and height; None draws one of `SIZES`.
    """
    size = size or SIZES[rng.integers(len(SIZES))]
    steadiness = rng.choice((0.0, 0.6, 2.0), p=(0.4, 0.4, 0.2))
    shake = steadiness * np.stack([smooth_noise(rng, frames, 3) for _ in range(2)], axis=-1)
    stage = Stage(frames, size, shake, sprites)
    canvas = tuple(int(_CANVAS * side) for side in size)
    background = paint_background(rng, load_photographs(split), sprites, *canvas)
    camera = plan_camera(rng, stage, canvas)
    target = _plan_target(rng, stage, background)
    crowd = [_plan_companion(rng, stage, target) for _ in range(int(rng.choice(5, p=(0.25, 0.25, 0.2, 0.2, 0.1))))]
    obstacles = [plan_obstacle(rng, stage, target, camera) for _ in range(int(rng.choice(4, p=(0.3, 0.35, 0.25, 0.1))))]
    behind, before = [], []
    for layer in crowd:
        (before if rng.random() < 0.4 and clear(layer, target) else behind).append(layer)
    before += [layer for layer in obstacles if clear(layer, target)]
    return Scene(
        size=size,
        background=background,
        camera=camera,
        behind=tuple(behind),
        target=target,
        before=tuple(before),
        optics=plan_optics(rng, stage),
        jpeg_quality=int(rng.choice((40, 70, 85, 93), p=(0.1, 0.25, 0.4, 0.25))),
    )


def plan_camera(
    rng: Generator, stage: Stage, canvas: tuple[int, int], reaches: tuple[float, float, float] = (0.0, 0.04, 0.16)
) -> np.ndarray:
    """(T, 2, 3) from background to image: pan, zoom and a slight roll about the middle, and the shake.

    `reaches` are what the pan's deviation is drawn from, as parts of the image's side.
    """
    frames, side = stage.frames, stage.side
    reach = side * rng.choice(reaches, p=(0.25, 0.35, 0.4))
    period = rng.uniform(15, 40)
    pan = reach * np.stack([smooth_noise(rng, frames, period) for _ in range(2)], axis=-1) + stage.shake
    zoom = np.exp(rng.choice((0.0, 0.1)) * smooth_noise(rng, frames, 30) + rng.uniform(-0.2, 0.2))
    roll = rng.choice((0.0, 2.5)) * smooth_noise(rng, frames, 25)
    matrices = np.empty((frames, 2, 3))
    for t in range(frames):
        matrices[t] = cv2.getRotationMatrix2D((canvas[0] / 2, canvas[1] / 2), float(roll[t]), float(zoom[t]))
        matrices[t, :, 2] += pan[t] + (np.array(stage.size) - canvas) / 2
    return matrices


def _plan_target(rng: Generator, stage: Stage, background: np.ndarray) -> Layer:
    """The object to follow: begins wholly within the image, wanders, perhaps leaves it for a while."""
    sprite = _distinct_sprite(rng, stage, background)
    layer = shaped(rng, stage, sprite, stage.side * np.exp(rng.uniform(np.log(0.1), np.log(0.36))))
    size = np.array(stage.size)
    reach = np.minimum(layer.reach()[0] + 2, size / 2)
    start = rng.uniform(reach, size - reach + 1e-6)
    path = wander(rng, stage.frames, start, pace(rng, stage, layer), 0.4 * layer.size, stage.size)
    if rng.random() < 0.12 and stage.frames >= 24:
        middle = int(rng.integers(stage.frames // 3, stage.frames))
        path = excursion(
            path, middle, int(rng.integers(1, 5)), _outside(stage, layer, path[middle]), 0.3 * layer.size[0]
        )
    path[1:] += stage.shake[1:] - stage.shake[0]
    return replace(layer, path=path)


def _plan_companion(rng: Generator, stage: Stage, target: Layer) -> Layer:
    """Another moving object, mostly a look-alike of the target, which often comes close to it once."""
    alike = rng.random() < 0.75
    sprite = stage.sprites.look_alike(rng, target.sprite) if alike else stage.sprites.draw(rng)
    layer = shaped(rng, stage, sprite, target.size[0] * np.exp(rng.normal(0, 0.2)))
    start = rng.uniform(0, stage.size)
    path = wander(rng, stage.frames, start, pace(rng, stage, layer), 0.2 * layer.size, stage.size)
    if rng.random() < 0.6 and stage.frames > _CLEAR:
        t = int(rng.integers(_CLEAR, stage.frames))
        angle = rng.uniform(0, 2 * np.pi)
        gap = rng.uniform(0.3, 1.3) * (layer.size[t] + target.size[t]) / 2
        goal = target.path[t] + gap * np.array((np.cos(angle), np.sin(angle)))
        path = excursion(path, t, 1, goal, 0.25 * layer.size[0])
    return replace(layer, path=path + stage.shake)


def plan_obstacle(rng: Generator, stage: Stage, target: Layer, camera: np.ndarray) -> Layer:
    """Something before the target that meets it once: it stands still in the world, or drifts past a slow target."""
    frames = stage.frames
    t = int(rng.integers(min(_CLEAR + 4, frames - 1), frames))
    post = rng.random() < 0.4
    sprite = stage.sprites.bar(rng) if post else stage.sprites.draw(rng)
    size = target.size[t] * (rng.uniform(1.6, 2.6) if post else rng.uniform(0.7, 1.5))
    speed = velocity(target.path)[t]
    pace = float(np.linalg.norm(speed))
    direction = -speed / pace if pace > 1e-6 else np.array((1.0, 0.0))
    lacking = max(0.0, rng.uniform(0.15, 0.3) * target.size[t] - pace)
    anchor = np.linalg.solve(camera[t, :, :2], target.path[t] - camera[t, :, 2])
    path = camera[:, :, :2] @ anchor + camera[:, :, 2]
    path = path + (np.arange(frames) - t)[:, None] * lacking * direction
    upright = float(rng.normal(0, 0.08)) + (0.0 if abs(direction[0]) >= abs(direction[1]) else np.pi / 2)
    return Layer(
        sprite=sprite,
        path=path,
        size=np.full(frames, size),
        angle=np.full(frames, upright if post else rng.uniform(-0.5, 0.5)),
        stretch=np.zeros(frames),
        shear=np.zeros(frames),
        bend=np.zeros(frames),
        gain=np.full(frames, rng.uniform(0.5, 1.0)),
    )


def shaped(
    rng: Generator,
    stage: Stage,
    sprite: Sprite,
    size: float,
    spins: tuple[float, float, float] = (0.35, 0.4, 0.25),
    limits: tuple[float, float] = (_SMALLEST, _LARGEST),
) -> Layer:
    """A layer, still without a path, whose object is `size` pixels at first and changes size, turns and deforms.

    `spins` are the chances that it stays upright, sways or spins; `limits` of the size are in pixels, and as a part
    of the image's shorter side.
    """
    frames = stage.frames
    growth = rng.uniform(0.05, 0.35) * smooth_noise(rng, frames, rng.uniform(15, 40))
    spin = rng.choice(("upright", "swaying", "spinning"), p=spins)
    if spin == "spinning":
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(
            np.deg2rad(rng.uniform(-5, 5) + 2 * smooth_noise(rng, frames, 10))
        )
    else:
        angle = (0.06 if spin == "upright" else 0.35) * smooth_noise(rng, frames, rng.uniform(8, 20))
    flexible = rng.choice((0.0, 0.3, 1.0))
    return Layer(
        sprite=sprite,
        path=np.zeros((frames, 2)),
        size=np.clip(size * np.exp(growth - growth[0]), limits[0], limits[1] * min(stage.size)),
        angle=angle,
        stretch=rng.uniform(0, 0.3) * np.clip(smooth_noise(rng, frames, 15), -2, 2),
        shear=0.15 * flexible * np.clip(smooth_noise(rng, frames, 10), -2, 2),
        bend=0.09 * flexible * np.clip(smooth_noise(rng, frames, 6), -2, 2),
        gain=np.clip(1 + rng.uniform(0, 0.15) * smooth_noise(rng, frames, 12), 0.6, 1.3),
        mirrored=bool(rng.random() < 0.5),
    )


def pace(rng: Generator, stage: Stage, layer: Layer) -> Pace:
    """A manner of moving: slow, ordinary or fast for the object's size, smooth or jerky."""
    low, high = ((0.01, 0.04), (0.04, 0.14), (0.14, 0.35))[rng.choice(3, p=(0.35, 0.47, 0.18))]
    speed = min(rng.uniform(low, high) * float(layer.size[0]), 0.045 * stage.side)
    return Pace(
        speed=max(speed, 0.4),
        turning=rng.uniform(0.05, 0.3),
        sudden=rng.choice((0.0, 0.04)),
        burst=rng.uniform(0.1, 0.5),
    )


def _distinct_sprite(rng: Generator, stage: Stage, background: np.ndarray) -> Sprite:
    """Of a few new objects the one whose mean colour differs most from the background's; sometimes any."""
    candidates = [stage.sprites.draw(rng) for _ in range(int(rng.choice((1, 3), p=(0.3, 0.7))))]
    colours = [background.reshape(-1, 3).mean(axis=0), *(sprite.mean_colour() for sprite in candidates)]
    lab = cv2.cvtColor(np.array(colours, np.float32)[None] / 255, cv2.COLOR_RGB2Lab)[0]
    return candidates[int(np.argmax(np.linalg.norm(lab[1:] - lab[0], axis=1)))]


def _outside(stage: Stage, layer: Layer, place: np.ndarray) -> np.ndarray:
    """The nearest point to `place` at which no part of the object is within the image."""
    reach = float(layer.reach().max()) + 2
    width, height = stage.size
    exits = np.array(((-reach, place[1]), (width + reach, place[1]), (place[0], -reach), (place[0], height + reach)))
    return exits[np.argmin(np.linalg.norm(exits - place, axis=1))]


def clear(layer: Layer, target: Layer) -> bool:
    """Whether a layer stays off the target during the first frames."""
    first = slice(0, _CLEAR // 2)
    distance = np.linalg.norm(layer.path[first] - target.path[first], axis=1)
    return bool((distance > layer.reach()[first] + target.reach()[first]).all())


def plan_optics(rng: Generator, stage: Stage) -> Optics:
    """Motion blur, a spell of defocus, changing light, noise; each sequence has some of them."""
    frames, (width, height) = stage.frames, stage.size
    defocus = np.full(frames, rng.choice((0.0, 0.5, 0.9), p=(0.5, 0.35, 0.15)))
    if rng.random() < 0.25:
        middle = rng.uniform(0.2, 1.0) * frames
        defocus += rng.uniform(1.0, 2.2) * np.exp(-(((np.arange(frames) - middle) / rng.uniform(2, 6)) ** 2))
    light = rng.uniform(0, 0.12) * smooth_noise(rng, frames, rng.uniform(4, 25)) + rng.normal(0, 0.08)
    if rng.random() < 0.15:
        light = light + rng.uniform(0.15, 0.4) * rng.choice((-1, 1)) * (
            np.arange(frames) >= rng.integers(4, frames + 4)
        )
    cast = rng.normal(0, 0.04, 3) + 0.03 * rng.choice((0, 1)) * smooth_noise(rng, frames, 20)[:, None] * rng.normal(
        0, 1, 3
    )
    spare = 48
    noise = rng.choice((0.0, 2.0, 5.0, 9.0), p=(0.25, 0.4, 0.25, 0.1))
    grain = noise * rng.standard_normal((height + spare, width + spare, 3), dtype=np.float32)
    return Optics(
        shutter=float(rng.choice((0.0, rng.uniform(0.2, 0.8)), p=(0.35, 0.65))),
        defocus=defocus,
        gain=np.clip(np.exp(light[:, None] + cast), 0.4, 1.7),
        gamma=np.exp(rng.normal(0, 0.12) + rng.uniform(0, 0.1) * smooth_noise(rng, frames, 15)),
        noise=grain.round().astype(np.int16),
        noise_corner=rng.integers(0, spare, (frames, 2)),
    )
