"""Sequences to measure on: frames of a clip that a package ships, as JPEG files in GOT-10k layout."""

from pathlib import Path

import cv2

from lib.test.video.samples import find_sample

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
    path, sample = find_sample("sample:bigbuckbunny")
    pictures = _pictures(path, width, height)
    scale = width / 1280, height / 720
    box = ",".join(f"{value * scale[i % 2]:.2f}" for i, value in enumerate(sample.box))
    for number in range(sequences):
        folder = root / f"clip{number + 1}"
        folder.mkdir(parents=True)
        for index in range(frames):
            picture = pictures[(number * 4 + index) % len(pictures)]
            cv2.imwrite(str(folder / f"{index + 1:08d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        (folder / "groundtruth.txt").write_text(f"{box}\n" * frames)
    (root / "list.txt").write_text("".join(f"clip{number + 1}\n" for number in range(sequences)))


def _pictures(path: Path, width: int, height: int) -> list:
    """The clip's frames, BGR."""
    video, pictures = cv2.VideoCapture(str(path)), []
    while (found := video.read())[0]:
        pictures.append(cv2.resize(found[1], (width, height)))
    video.release()
    return pictures
