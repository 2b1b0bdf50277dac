"""Planning crowded scenes: real things among others of their kind, small and large, fast, blurred and half hidden.

What the plain scenes of `scene` have, and more of it: an object is met by several that look like it, occluders pass
often, the camera swings, objects are down to a dozen pixels small.
"""

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from lib.data.synthetic.backgrounds import paint_background
from lib.data.synthetic.cutouts import RealSprites
from lib.data.synthetic.motion import excursion, smooth_noise, wander
from lib.data.synthetic.objects import Sprite
from lib.data.synthetic.render import Layer, Scene, lay_sprite
from lib.data.synthetic.scene import (
    Stage,
    clear,
    pace,
    plan_camera,
    plan_obstacle,
    plan_optics,
    shaped,
)
from lib.data.synthetic.textures import photograph_piece, recolour

SIZES = ((480, 360), (480, 270), (400, 300), (360, 360), (320, 240), (270, 480))

_SMALLEST = 11.0  # pixels
_LARGEST = 0.95  # of the image's shorter side
_CANVAS = 1.8  # background to frame
_IN_PLACE = 0.5  # of the targets are objects of the background's photograph, where that shows them
_STEP = 4  # of so many planned frames one is rendered, so that a few show much of what happens


def plan_crowded_scene(rng: Generator, sprites: RealSprites, frames: int, size: tuple[int, int] | None = None) -> Scene:
    """Plan a sequence of `frames` frames; `size` (width, height) None draws one of `SIZES`."""
    size = size or SIZES[rng.integers(len(SIZES))]
    frames *= _STEP
    steadiness = rng.choice((0.0, 0.8, 3.0), p=(0.3, 0.4, 0.3))
    shake = steadiness * np.stack([smooth_noise(rng, frames, 3) for _ in range(2)], axis=-1)
    stage = Stage(frames, size, shake, sprites)
    canvas = tuple(int(_CANVAS * side) for side in size)
    in_place = sprites.has_outlined and rng.random() < _IN_PLACE
    camera = plan_camera(rng, stage, canvas, (0.04, 0.1, 0.2) if in_place else (0.04, 0.15, 0.3))
    if in_place:
        target, background = _find_target(rng, stage, camera, canvas)
    else:
        target = _plan_target(rng, stage)
        background = _paint(rng, sprites, canvas, target.sprite)
    count = int(rng.choice(7, p=(0.12, 0.16, 0.2, 0.2, 0.16, 0.1, 0.06)))
    crowd = [_plan_companion(rng, stage, target) for _ in range(count)]
    obstacles = [plan_obstacle(rng, stage, target, camera) for _ in range(int(rng.choice(4, p=(0.35, 0.35, 0.2, 0.1))))]
    behind, before = [], []
    for layer in crowd:
        (before if (in_place or rng.random() < 0.4) and clear(layer, target) else behind).append(layer)
    if in_place:
        behind.clear()  # what lies before the background lies before what it shows
    before += [layer for layer in obstacles if clear(layer, target)]
    return Scene(
        size=size,
        background=background,
        camera=camera,
        behind=tuple(behind),
        target=target,
        before=tuple(before),
        optics=plan_optics(rng, stage),
        jpeg_quality=int(rng.integers(45, 96)),
        in_place=in_place,
        step=_STEP,
    )


def _draw_size(rng: Generator, stage: Stage) -> float:
    """Size of a target in pixels; small ones are frequent, and some fill the image."""
    short = min(stage.size)
    least, most = (14, 0.35 * short) if rng.random() < 0.7 else (0.3 * short, 0.8 * short)
    return float(np.exp(rng.uniform(np.log(least), np.log(most))))


def _find_target(rng: Generator, stage: Stage, camera: np.ndarray, canvas: tuple[int, int]) -> tuple[Layer, np.ndarray]:
    """An object that a photograph shows, among what it shows beside it; and the photograph as background."""
    spot = np.array(canvas) / 2 + rng.uniform(-0.25, 0.25, 2) * stage.size
    found = stage.sprites.in_place(rng, _draw_size(rng, stage), canvas, spot)
    zeros = np.zeros(stage.frames)
    layer = Layer(
        sprite=found.sprite,
        path=camera[:, :, :2] @ spot + camera[:, :, 2],
        size=found.size * np.sqrt(np.linalg.det(camera[:, :, :2])),
        angle=np.arctan2(camera[:, 1, 0], camera[:, 0, 0]),
        stretch=zeros,
        shear=zeros,
        bend=zeros,
        gain=zeros + 1,
    )
    return layer, found.background


def _plan_target(rng: Generator, stage: Stage) -> Layer:
    """The object to follow: begins wholly within the image and wanders."""
    layer = _shaped(rng, stage, stage.sprites.draw(rng), _draw_size(rng, stage))
    size = np.array(stage.size)
    reach = np.minimum(layer.reach()[0] + 2, size / 2)
    start = rng.uniform(reach, size - reach + 1e-6)
    path = wander(rng, stage.frames, start, pace(rng, stage, layer), 0.35 * layer.size, stage.size)
    path[1:] += stage.shake[1:] - stage.shake[0]
    return replace(layer, path=path)


def _plan_companion(rng: Generator, stage: Stage, target: Layer) -> Layer:
    """Another moving object, mostly one like the target; half of them go along with it, as people in a crowd do."""
    alike = rng.random() < 0.7
    sprite = stage.sprites.look_alike(rng, target.sprite) if alike else stage.sprites.draw(rng)
    layer = _shaped(rng, stage, sprite, target.size[0] * np.exp(rng.normal(0, 0.25)))
    frames = stage.frames
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi) + rng.uniform(0, 0.8) * smooth_noise(rng, frames, 25)
        gap = 0.5 * (layer.size + target.size) * np.exp(0.3 * smooth_noise(rng, frames, 20)) * rng.uniform(0.6, 1.8)
        path = target.path + gap[:, None] * np.stack((np.cos(angle), 0.7 * np.sin(angle)), axis=-1)
        return replace(layer, path=path)
    path = wander(rng, frames, rng.uniform(0, stage.size), pace(rng, stage, layer), 0.2 * layer.size, stage.size)
    if rng.random() < 0.6:
        t = int(rng.integers(frames // 8, frames))
        angle = rng.uniform(0, 2 * np.pi)
        gap = rng.uniform(0.3, 1.3) * (layer.size[t] + target.size[t]) / 2
        goal = target.path[t] + gap * np.array((np.cos(angle), np.sin(angle)))
        path = excursion(path, t, 1, goal, 0.25 * layer.size[0])
    return replace(layer, path=path + stage.shake)


def _shaped(rng: Generator, stage: Stage, sprite: Sprite, size: float) -> Layer:
    """As `scene.shaped`, in this module's range of sizes; few things spin, most deform as bodies do."""
    layer = shaped(rng, stage, sprite, size, (0.6, 0.32, 0.08), (_SMALLEST, _LARGEST))
    limber = rng.choice((0.0, 0.02, 0.05, 0.08), p=(0.25, 0.25, 0.3, 0.2))
    period = rng.uniform(5, 20)
    waves = np.stack([np.clip(smooth_noise(rng, stage.frames, period), -2, 2) for _ in range(4)], axis=-1)
    return replace(layer, sway=limber * waves)


def _paint(rng: Generator, sprites: RealSprites, canvas: tuple[int, int], target: Sprite) -> np.ndarray:
    """A background (H, W, 3) uint8 of a photograph, mostly as it is, with some still things like the target in it."""
    width, height = canvas
    if rng.random() < 0.12:
        return paint_background(rng, sprites.photographs, sprites, width, height)
    image = photograph_piece(rng, sprites.photographs, height, width, (0.9, 2.2))
    if rng.random() < 0.15:
        image = recolour(rng, image)
    image = np.ascontiguousarray(image)
    for _ in range(int(rng.choice((0, 0, 2, 5)))):
        alike = rng.random() < 0.5
        _place(rng, image, sprites.look_alike(rng, target) if alike else sprites.draw(rng))
    return image


def _place(rng: Generator, image: np.ndarray, sprite: Sprite) -> None:
    """Put a still thing somewhere, in place."""
    height, width = image.shape[:2]
    still = Layer(
        sprite=sprite,
        path=np.array(((rng.uniform(0, width), rng.uniform(0, height)),)),
        size=np.array((np.sqrt(width * height) * np.exp(rng.uniform(np.log(0.02), np.log(0.2))),)),
        angle=np.array((rng.normal(0, 0.2),)),
        stretch=np.array((rng.normal(0, 0.15),)),
        shear=np.zeros(1),
        bend=np.zeros(1),
        gain=np.array((rng.uniform(0.6, 1.0),)),
        mirrored=bool(rng.random() < 0.5),
    )
    lay_sprite(image, still, 0)
