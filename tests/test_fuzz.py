"""Whatever a file holds, a reader gives its result or raises one `UserError` of one line, and ends.

    STARK_FUZZ_EXAMPLES=100000 python -m pytest tests/test_fuzz.py [-k boxes]

tries so many random texts on each reader; hypothesis prints the one that broke it.
"""

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.data.box_files import listed_attributes, parse_boxes, parse_flags, parse_regions, read_boxes, read_meta
from lib.data.images import IMAGE_SUFFIXES
from lib.test.evaluation.result_files import read_result, read_seconds
from lib.test.web.clips import Limits, open_clip
from lib.utils.errors import UserError
from lib.utils.files import parse_names
from tests.test.web.made_clips import numbered, write_clip

SECONDS = 2.0  # of the processor; longer is too long for any small file
EXAMPLES = int(os.environ.get("STARK_FUZZ_EXAMPLES", 0))  # 0: a few, always the same
_PIECES = [
    *("0", "1", "-1", "2.5", ".5", "5.", "1e3", "1e400", "nan", "inf", "-0", "9" * 400, "0x1F", "1_0", "²", "٣"),
    *(",", ";", "\t", " ", "\n", "\r\n", "\r", "\f", "\0", "\ufeff", ":", "|", "m", "M", "m0,0,4,4,1,2", "1,2,3,4\n"),
    *("a", "..", "/", "\\", "list", "-", "12-15", "object_class: x", "\u2028", "ü"),
]


def _file(read: Callable[[Path], object]) -> Callable[[str], object]:
    """A reader of files as a reader of their text."""

    def reader(text: str) -> object:
        Path("fuzz.txt").write_text(text, encoding="utf-8", errors="replace", newline="")
        return read(Path("fuzz.txt"))

    return reader


def _parser(parse: Callable[[str, str], object]) -> Callable[[str], object]:
    return lambda text: parse(text, "fuzz.txt")


def _upload(data: bytes) -> None:
    """A video or a picture that somebody uploads to the page."""
    Path("pictures").mkdir(exist_ok=True)
    for path in (Path("video"), Path("pictures/1.png")):
        path.write_bytes(data)
    for path in (Path("video"), Path("pictures")):
        check(lambda path: list(open_clip(path, "clip", Limits(frames=50, side=500)).frames()), path)


@cache
def _whole(kind: str) -> bytes:
    """A small video or picture."""
    if kind.startswith("."):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        return cv2.imencode(kind, pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, int(kind == ".jpeg")])[1].tobytes()
    codec = {"avi": "mjpeg", "webm": "libvpx"}.get(kind, "libx264")
    frames = (numbered(5 * index, (48, 32)) for index in range(6))
    return write_clip(Path("whole"), frames, codec, form=kind).read_bytes()


def _damaged(kind: str, places: list[tuple[int, bytes]], cut: int) -> bytes:
    """The same with bytes put in place of others, and perhaps without its end."""
    data = bytearray(_whole(kind))
    for place, patch in places:
        place %= len(data)
        data[place : place + len(patch)] = patch
    return bytes(data[: len(data) - cut % len(data)] if cut % 4 == 3 else data)


_texts = st.one_of(st.lists(st.sampled_from(_PIECES), max_size=40).map("".join), st.text(max_size=200))
_places = st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=8)), max_size=6)
_uploads = st.builds(_damaged, st.sampled_from((*IMAGE_SUFFIXES, "mp4", "avi", "webm")), _places, st.integers(0))
TARGETS: dict[str, tuple[st.SearchStrategy, Callable]] = {
    "boxes": (_texts, _file(read_boxes)),
    "digits": (st.just("1" * 100_000 + "x"), _parser(parse_boxes)),  # not split in every way
    "flags": (_texts, _parser(parse_flags)),
    "regions": (_texts, _parser(parse_regions)),
    "result": (_texts, _file(read_result)),
    "seconds": (_texts, _file(read_seconds)),
    "names": (_texts, _parser(parse_names)),
    "attributes": (_texts, _file(lambda path: (listed_attributes(path), read_meta(path)))),
    "upload": (_uploads, _upload),
}


def check(read: Callable, data: object) -> None:
    """Read, and raise an `AssertionError` where what a user would see is not one line, or came late."""
    start = time.process_time()
    try:
        read(data)
        message = "a result"
    except UserError as error:
        message = str(error)
    seconds = time.process_time() - start
    assert message.strip(), "an error without words"
    assert "\n" not in message
    assert seconds < SECONDS, f"{seconds:.1f} s for {str(data)[:100]!r}"


@pytest.mark.parametrize("target", TARGETS)
def test_a_reader_gives_a_result_or_one_line(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    strategy, read = TARGETS[target]
    how = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

    @settings(max_examples=EXAMPLES or 40, derandomize=not EXAMPLES, **how)
    @given(strategy)
    def examples(data: str | bytes) -> None:
        check(read, data)

    examples()
