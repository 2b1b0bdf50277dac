"""Images whose files claim more than they can hold, and large ones that are what they say."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from lib.data import images as image
from lib.data.image_claims import read_claim
from lib.data.images import ImageReadError, decode_image, read_image


def png(width, height, bits=8, colour=2, length=0):
    """A PNG file of about 70 bytes that claims a size, or that its pixels have a length."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = zlib.compress(bytes(60))
    parts = (b"IHDR", header, len(header)), (b"IDAT", pixels, length or len(pixels)), (b"IEND", b"", 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content, claimed in parts:
        data += struct.pack(">I", claimed) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data


def jpeg(width, height):
    """A JPEG file of 16x16 pixels that claims others."""
    data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


@pytest.mark.parametrize(
    "data",
    [png(30000, 30000), png(5000, 5000, 1, 0), png(8, 8, length=3 << 30), jpeg(30000, 30000), jpeg(2000, 2000)],
    ids=["png", "png of bits", "png part", "jpeg", "small jpeg"],
)
def test_a_small_file_that_claims_much_is_not_decoded(tmp_path, monkeypatch, data):
    assert len(data) < 700
    path = tmp_path / "claims"
    path.write_bytes(data)
    monkeypatch.setattr(image.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageReadError, match="^cannot decode image .*claims: the file is damaged or not an image$"):
        read_image(path)


def test_more_pixels_than_anybody_tracks_in_are_not_decoded(monkeypatch):
    monkeypatch.setattr(image.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    message = r"^image here is too large \(30000x30000 pixels\): at most 268 million are read$"
    for data in (png(30000, 30000) + bytes(3_000_000), jpeg(30000, 30000) + bytes(2_000_000)):
        with pytest.raises(ImageReadError, match=message):
            decode_image(data, "here")


@pytest.mark.parametrize("size", [(1, 1), (33, 17), (7680, 4320), (11648, 8736)])
def test_what_compresses_best_may_be_large(tmp_path, size):
    """Of one colour: a mask of bits and of bytes, a JPEG with the shortest codes."""
    saved = {"bits.png": ("1", {}), "bytes.png": ("L", {"compress_level": 9})}
    saved |= {name: ("L", {"optimize": True, "progressive": name != "plain.jpg"}) for name in ("plain.jpg", "more.jpg")}
    for name, (mode, options) in saved.items():
        Image.new(mode, size).save(tmp_path / name, **options)
        data = (tmp_path / name).read_bytes()
        claim = read_claim(data)
        assert (claim.width, claim.height) == size
        assert claim.least_bytes <= len(data)
        if size[0] < 100:
            assert decode_image(data, name).shape == (*size[::-1], 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "I;16"])
def test_every_kind_of_png_is_read(tmp_path, mode):
    Image.new(mode, (3000, 2000)).save(tmp_path / "large.png", compress_level=9)
    assert read_image(tmp_path / "large.png").shape == (2000, 3000, 3)


@pytest.mark.parametrize("data", [b"", b"BM", b"\xff\xd8\xff", png(8, 8)[:20], jpeg(8, 8)[:100]])
def test_what_says_nothing_claims_nothing(data):
    assert read_claim(data) is None
