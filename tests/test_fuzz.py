"""Whatever a file holds, a reader gives its result or raises one `UserError` of one line, and ends.

    STARK_FUZZ_EXAMPLES=100000 python -m pytest tests/test_fuzz.py [-k boxes]

tries so many random texts on each reader; hypothesis prints the one that broke it.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.data.box_files import listed_attributes, parse_boxes, parse_flags, parse_regions, read_boxes, read_meta
from lib.data.images import IMAGE_SUFFIXES, JpegPicture, open_picture
from lib.test.evaluation.result_files import read_result, read_seconds
from lib.test.web.clips import Limits, open_clip
from lib.utils.errors import UserError
from lib.utils.files import parse_names
from tests.test.web.made_clips import numbered, write_clip

SECONDS = 2.0  # of the processor; longer is too long for any small file
EXAMPLES = int(os.environ.get("STARK_FUZZ_EXAMPLES", 0))  # 0: a few, always the same
SCRATCH = Path()  # a test's own

_PIECES = [
    *("0", "1", "-1", "2.5", ".5", "5.", "1e3", "1e400", "nan", "inf", "-0", "9" * 400, "0x1F", "1_0", "²", "٣"),
    *(",", ";", "\t", " ", "\n", "\r\n", "\r", "\f", "\0", "\ufeff", ":", "|", "m", "M", "m0,0,4,4,1,2", "1,2,3,4\n"),
    *("a", "..", "/", "\\", "list", "-", "12-15", "object_class: x", "\u2028", "ü"),
]


def _written(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of files as a reader of their content."""

    def reader(data: bytes) -> object:
        path = SCRATCH / name
        path.write_bytes(data)
        return read(path)

    return reader


def _clip(data: bytes) -> None:
    """A video or a picture that somebody uploads."""
    folder = SCRATCH / "pictures"
    folder.mkdir(exist_ok=True)
    for path in (SCRATCH / "video", folder / "1.png"):
        path.write_bytes(data)
    for path in (SCRATCH / "video", folder):
        try:
            deque(open_clip(path, "clip", Limits(frames=50, side=500)).frames(), maxlen=0)
        except UserError as error:
            check_message(error)


@cache
def _whole(kind: str) -> bytes:
    """A small video or picture."""
    if kind.startswith("."):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        return cv2.imencode(kind, pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, int(kind == ".jpeg")])[1].tobytes()
    codec = {"avi": "mjpeg", "webm": "libvpx"}.get(kind, "libx264")
    form = {"ts": "mpegts"}.get(kind, kind)
    frames = (numbered(5 * index, (48, 32)) for index in range(6))
    return write_clip(SCRATCH / "whole", frames, codec, form=form).read_bytes()


def _damaged(kind: str, places: list[tuple[int, bytes]], cut: int) -> bytes:
    """The same with bytes put in place of others, and perhaps without its end."""
    data = bytearray(_whole(kind))
    for place, patch in places:
        place %= len(data)
        data[place : place + len(patch)] = patch
    return bytes(data[: len(data) - cut % len(data)] if cut % 4 == 3 else data)


_bytes = st.one_of(
    st.lists(st.sampled_from(_PIECES), max_size=40).map(lambda pieces: "".join(pieces).encode()),
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode(errors="replace")),
)
_places = st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=8)), max_size=6)
_pictures = st.builds(_damaged, st.sampled_from(IMAGE_SUFFIXES), _places, st.integers(0))
_videos = st.builds(_damaged, st.sampled_from(("mp4", "avi", "webm", "ts", "matroska")), _places, st.integers(0))


def _parts(data: bytes) -> None:
    """A piece of a picture."""
    picture = open_picture(data, "fuzz.jpg")
    if isinstance(picture, JpegPicture) and picture.width * picture.height < 1e7:
        picture.part((picture.width // 3, picture.width), (picture.height // 3, picture.height))


TARGETS: dict[str, tuple[st.SearchStrategy, Callable]] = {
    "boxes": (_bytes, _written("boxes.txt", read_boxes)),
    "flags": (_bytes, lambda data: parse_flags(data.decode(errors="replace"), "fuzz.txt")),
    "regions": (_bytes, lambda data: parse_regions(data.decode(errors="replace"), "fuzz.txt")),
    "result": (_bytes, _written("fuzz_result.txt", read_result)),
    "seconds": (_bytes, _written("fuzz_time.txt", read_seconds)),
    "names": (_bytes, lambda data: parse_names(data.decode(errors="replace"), "list.txt")),
    "attributes": (_bytes, _written("attrs.txt", lambda path: (listed_attributes(path), read_meta(path)))),
    "picture": (st.one_of(_pictures, st.binary(max_size=100)), _parts),
    "clip": (st.one_of(_pictures, _videos), _clip),
}


def check(read: Callable, data: bytes | str) -> None:
    """Read, and raise an `AssertionError` where what a user would see is not one line, or came late."""
    start = time.process_time()
    try:
        read(data)
    except UserError as error:
        check_message(error)
    seconds = time.process_time() - start
    assert seconds < SECONDS, f"{seconds:.1f} s for {data[:100]!r}"


def check_message(error: UserError) -> None:
    """Raise an `AssertionError` where what a user would see is not one line."""
    message = str(error)
    assert message.strip(), "an error without words"
    assert "\n" not in message, f"more than one line: {message!r}"


@pytest.mark.parametrize("target", TARGETS)
def test_a_reader_gives_a_result_or_one_line(target, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_fuzz.SCRATCH", tmp_path)
    strategy, read = TARGETS[target]
    how = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

    @settings(max_examples=EXAMPLES or 40, derandomize=not EXAMPLES, **how)
    @given(strategy)
    def examples(data: bytes | str) -> None:
        check(read, data)

    examples()


def test_the_check_itself_sees_tracebacks_and_long_messages():
    def two_lines(data: bytes) -> None:
        raise UserError("one\ntwo")

    with pytest.raises(AssertionError, match="more than one line"):
        check(two_lines, b"")
    with pytest.raises(ZeroDivisionError):
        check(lambda data: 1 / len(data), b"")


def test_a_long_row_of_digits_is_refused_at_once():
    """Matching must not try every way to split the digits."""
    text = "1" * 100_000 + "x"
    check(lambda data: parse_boxes(data.decode(), "a.txt"), text.encode())
    with pytest.raises(UserError, match="line 1"):
        parse_boxes(text, "a.txt")
