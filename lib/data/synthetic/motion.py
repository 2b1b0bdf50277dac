"""How things move: smooth random signals and paths, all as one value per frame."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator


def smooth_noise(rng: Generator, frames: int, period: float) -> np.ndarray:
    """A random signal (frames,) of zero mean and unit deviation that varies over about `period` frames."""
    reach = int(np.ceil(1.5 * period))
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / (period / 2)) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    return np.convolve(rng.normal(size=frames + 2 * reach), kernel, mode="valid")


@dataclass(frozen=True)
class Pace:
    """How an object wanders.

    Attributes:
        speed: mean distance per frame, in pixels.
        turning: deviation of the heading's change per frame, in radians.
        sudden: chance per frame of an abrupt turn.
        burst: how much the speed varies (deviation of its logarithm).
    """

    speed: float
    turning: float
    sudden: float
    burst: float


def wander(
    rng: Generator, frames: int, start: np.ndarray, pace: Pace, inset: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """A path (frames, 2) of xy in pixels that keeps `inset` (frames,) pixels away from the borders of the image.

    The heading drifts, jumps now and then and turns back at the borders; the speed swells and ebbs.
    """
    speed = pace.speed * np.exp(pace.burst * smooth_noise(rng, frames, 8))
    turns = rng.normal(0, pace.turning, frames)
    jumps = rng.random(frames) < pace.sudden
    turns[jumps] += rng.uniform(1.0, 3.0, jumps.sum()) * rng.choice((-1, 1), jumps.sum())
    heading = rng.uniform(0, 2 * np.pi)
    path = np.empty((frames, 2))
    path[0] = start
    for t in range(1, frames):
        heading += turns[t]
        step = speed[t] * np.array((np.cos(heading), np.sin(heading)))
        low = np.minimum(inset[t], np.array(size) / 2)
        high = np.array(size) - low
        place = path[t - 1] + step
        outward = ((place < low) & (step < 0)) | ((place > high) & (step > 0))
        step = np.where(outward, -step, step)
        heading = np.arctan2(step[1], step[0])
        path[t] = path[t - 1] + step
    return path


def excursion(path: np.ndarray, middle: int, hold: int, target: np.ndarray, pace: float) -> np.ndarray:
    """Bend a path (frames, 2) so that it visits `target` (2,) for `hold` frames around frame `middle`.

    The ways out and back take as many frames as an extra speed of `pace` pixels a frame asks for;
    where `middle` is too early for that it is put off, so that frame 0 stays where it is.
    """
    offset = target - path[middle]
    ramp = max(4.0, float(np.linalg.norm(offset)) / pace)
    middle = max(middle, int(np.ceil(hold / 2 + ramp)))
    away = np.abs(np.arange(len(path)) - middle) - hold / 2
    weight = 0.5 + 0.5 * np.cos(np.pi * np.clip(away / ramp, 0, 1))
    return path + weight[:, None] * offset


def velocity(path: np.ndarray) -> np.ndarray:
    """Central differences of a path (frames, 2), in pixels a frame."""
    if len(path) < 2:
        return np.zeros_like(path)
    return np.gradient(path, axis=0)
