"""Sequences to measure on: frames of a clip that a package ships, as JPEG files in GOT-10k layout."""

from pathlib import Path

import cv2
import numpy as np

from lib.data.samples import find_sample

_QUALITY = 90


def write_clip(
    root: Path, sequences: int, frames: int, width: int = 1280, height: int = 720, quality: int = _QUALITY
) -> None:
    """Write parts of the sample clip `bigbuckbunny` as sequences of a folder.

    Args:
        root: the folder, which must not be there yet.
        sequences: each begins some frames after the one before it, with the clip's first box.
        frames: of each sequence; the clip starts anew where it ends.
        width, height: of the frames, in pixels.
        quality: of the JPEG files.
    """
    _, sample = find_sample("sample:bigbuckbunny")
    found = pictures(frames + 4 * sequences, width, height)
    scale = width / 1280, height / 720
    box = ",".join(f"{value * scale[i % 2]:.2f}" for i, value in enumerate(sample.box))
    for number in range(sequences):
        folder = root / f"clip{number + 1}"
        folder.mkdir(parents=True)
        for index in range(frames):
            picture = cv2.cvtColor(found[(number * 4 + index) % len(found)], cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / f"{index + 1:08d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        (folder / "groundtruth.txt").write_text(f"{box}\n" * frames)
    (root / "list.txt").write_text("".join(f"clip{number + 1}\n" for number in range(sequences)))


def pictures(count: int, width: int, height: int) -> list[np.ndarray]:
    """The clip's first frames (height, width, 3) uint8 RGB, at most so many."""
    path, _ = find_sample("sample:bigbuckbunny")
    video, found = cv2.VideoCapture(str(path)), []
    while len(found) < count and (frame := video.read())[0]:
        found.append(cv2.cvtColor(cv2.resize(frame[1], (width, height)), cv2.COLOR_BGR2RGB))
    video.release()
    return found
