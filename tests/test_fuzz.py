"""Whatever a file holds, a reader gives its result or raises one `UserError` of one line, and ends.

    STARK_FUZZ_EXAMPLES=100000 python -m pytest tests/test_fuzz.py [-k boxes]

tries so many random files on each reader; hypothesis prints the one that broke it.
"""

import os
import time
from collections.abc import Callable
from functools import cache
from operator import methodcaller
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.data.box_files import listed_attributes, parse_flags, parse_regions, read_boxes, read_meta
from lib.data.images import open_picture
from lib.test.evaluation.result_files import read_result, read_seconds
from lib.test.web.clips import Limits, open_clip
from lib.utils.errors import UserError
from lib.utils.files import parse_names, read_text
from tests.test.web.made_clips import numbered, write_clip

SECONDS = 2.0  # of the processor; longer is too long for any small file
EXAMPLES = int(os.environ.get("STARK_FUZZ_EXAMPLES", 0))  # 0: a few, always the same
read_part = methodcaller("part", (0, 16), (8, 24))  # of a JPEG file this alone is decoded
LIMITS = Limits(frames=50, side=500)
PIECES = [
    *("0", "1", "-1", "2.5", ".5", "5.", "1e3", "1e400", "nan", "inf", "-0", "9" * 20_000, "0x1F", "1_0", "²", "٣"),
    *(",", ";", "\t", " ", "\n", "\r\n", "\r", "\f", "\0", "\ufeff", ":", "|", "m", "M", "m0,0,4,4,1,2", "1,2,3,4\n"),
    *("a", "..", "/", "\\", "list", "-", "12-15", "object_class: x", "\u2028", "ü"),
]
READERS: dict[str, Callable[[Path], object]] = {
    "boxes": read_boxes,
    "flags": lambda path: parse_flags(read_text(path), path),
    "regions": lambda path: parse_regions(read_text(path), path),
    "result": read_result,
    "seconds": read_seconds,
    "names": lambda path: parse_names(read_text(path), path),
    "attributes": lambda path: (listed_attributes(path), read_meta(path)),
    "part of a picture": lambda path: read_part(open_picture(path.read_bytes(), path)),
    "video that is uploaded": lambda path: list(open_clip(path, "clip", LIMITS).frames()),
    "pictures that are uploaded": lambda path: list(open_clip(path.parent, "clip", LIMITS).frames()),
}


@cache
def whole(kind: str) -> bytes:
    """A small picture or video."""
    if kind.startswith("."):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        return cv2.imencode(kind, pixels)[1].tobytes()
    codec = {"avi": "mjpeg", "webm": "libvpx"}.get(kind, "libx264")
    path = write_clip(Path(f"whole.{kind}"), (numbered(5 * index, (48, 32)) for index in range(6)), codec)
    data = path.read_bytes()
    path.unlink()
    return data


def damaged(kind: str, places: list[tuple[int, bytes]], cut: int) -> bytes:
    """The same with bytes put in place of others, and perhaps without its end."""
    data = bytearray(whole(kind))
    for place, patch in places:
        place %= len(data)
        data[place : place + len(patch)] = patch
    return bytes(data[: len(data) - cut % len(data)] if cut % 4 == 3 else data)


KINDS = st.sampled_from((".png", ".jpg", ".bmp", ".webp", "mp4", "avi", "webm"))
PLACES = st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=8)), max_size=6)
FILES = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=40).map(lambda pieces: "".join(pieces).encode()),
    st.binary(max_size=200),
    st.builds(damaged, KINDS, PLACES, st.integers(0)),
)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_gives_a_result_or_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    how = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

    @settings(max_examples=EXAMPLES or 60, derandomize=not EXAMPLES, **how)
    @given(FILES)
    def examples(data: bytes) -> None:
        path = tmp_path / "1.png"
        path.write_bytes(data)
        message, start = "a result", time.process_time()
        try:
            READERS[name](path)
        except UserError as error:
            message = str(error)
        assert time.process_time() - start < SECONDS
        assert message.strip(), "an error without words"
        assert "\n" not in message

    examples()
