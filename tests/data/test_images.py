"""Images decoded whole and in parts: the same pixels, and nothing damaged passes."""

import struct
import zlib
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from lib.data import images
from lib.data.images import ImageReadError, JpegPicture, cut_picture, decode_image, open_picture
from lib.utils.crop import Region, sample_target
from tests.golden.fill import image

SAMPLINGS = {"420": 0x221111, "422": 0x211111, "440": 0x121111, "444": 0x111111, "411": 0x411111}


def smooth(height=203, width=299):
    """A picture without much detail, such as video has."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(pixels, *options):
    return cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85, *options])[1].tobytes()


@pytest.fixture(params=["turbojpeg", "OpenCV"])
def decoder(request, monkeypatch):
    """The decoder of parts: the library, or OpenCV as where the library is missing."""
    if request.param == "turbojpeg" and images.turbojpeg() is None:
        pytest.skip("libjpeg-turbo 3 is not installed")
    if request.param == "OpenCV":
        monkeypatch.setattr(images, "turbojpeg", lambda: None)
    return request.param


def test_damaged_files_and_those_that_claim_more_than_they_hold_are_refused():
    header, pixels = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), zlib.compress(bytes(200))
    png = b"\x89PNG\r\n\x1a\n"
    for kind, content, length in ((b"IHDR", header, 13), (b"IDAT", pixels, 3 << 30), (b"IEND", b"", 0)):
        png += struct.pack(">I", length) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    billions = bytearray(encode(smooth()))
    place = billions.find(b"\xff\xc0")
    billions[place + 5 : place + 9] = b"\xff\xf0\xff\xf0"
    for damaged in (bytes(billions), png, png[:20], png[:8], b"", b"BM", b"\xff\xd8\xff"):
        with pytest.raises(ImageReadError, match="^cannot decode image here: the file is damaged or not an image$"):
            decode_image(damaged, "here")
    with pytest.raises(ImageReadError, match="here"):
        open_picture(bytes(billions), "here").part((30000, 30100), (30000, 30100))


def test_the_system_s_library_is_used_where_the_package_is_missing_unless_it_is_too_old(monkeypatch):
    new, old = Mock(), Mock(spec=["tjInit"])
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda _: None)
    for name, found in (("new", new), ("old", None), ("missing", None), (None, None)):
        monkeypatch.setattr(images.ctypes.util, "find_library", lambda _, name=name: name)
        monkeypatch.setattr(images.ctypes, "CDLL", Mock(side_effect={"new": [new], "old": [old]}.get(name, OSError)))
        assert images.turbojpeg.__wrapped__() is found


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_part_is_what_the_whole_has_there(sampling, decoder):
    rng = np.random.default_rng(0)
    for progressive in (0, 0, 1, 1):
        height, width = rng.integers(90, 240, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        options = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling], cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
        data = encode(pixels, *options, cv2.IMWRITE_JPEG_RST_INTERVAL, 5 * progressive)
        found, expected = open_picture(data, "here"), decode_image(data, "here")
        assert (found.height, found.width) == (height, width)
        for _ in range(5):
            y, x = (np.sort(rng.choice(extent + 1, 2, replace=False)).tolist() for extent in expected.shape[:2])
            assert (images.decode_part(data, x, y) is None) == (decoder == "OpenCV")
            assert np.array_equal(found.part(x, y), expected[slice(*y), slice(*x)]), (x, y)


def test_grey_and_turned_files_and_other_formats_are_read():
    files = {suffix: cv2.imencode(suffix, smooth())[1].tobytes() for suffix in (".png", ".bmp", ".webp")}
    files["grey"] = cv2.imencode(".jpg", cv2.cvtColor(smooth(), cv2.COLOR_RGB2GRAY))[1].tobytes()
    orientation, data = (
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
        encode(smooth(60, 100)),
    )
    files["turned"] = data[:2] + b"\xff\xe1" + (len(orientation) + 2).to_bytes(2, "big") + orientation + data[2:]
    for kind, data in files.items():
        found, whole = open_picture(data, "here"), decode_image(data, "here")
        assert isinstance(found, JpegPicture) == (kind == "grey")
        assert whole.shape[:2] == (found.height, found.width) == ((100, 60) if kind == "turned" else (203, 299))
        assert np.array_equal(found.part((3, 40), (5, 9)), whole[5:9, 3:40])


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_file_that_was_cut_off_is_named(decoder, progressive):
    data, small = encode(smooth(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive), encode(smooth(48, 48))
    with_thumbnail = data[:2] + b"\xff\xe2" + (len(small) + 2).to_bytes(2, "big") + small + data[2:]
    for cut in (*(data[:keep] for keep in (-1, -2, -1000, len(data) // 2, 300)), with_thumbnail[:-500]):
        with pytest.raises(ImageReadError, match="cannot decode image here: the file is damaged"):
            open_picture(cut, "here").part((0, 20), (0, 20))
    assert open_picture(with_thumbnail + b"more", "here").part((0, 20), (0, 20)).shape == (20, 20, 3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_cut_is_the_crop_of_the_whole(mirrored):
    rng = np.random.default_rng(1)
    data = encode(image("crop.image", 360, 480))
    pixels = decode_image(data, "here")
    frame = pixels[:, ::-1] if mirrored else pixels
    for factor, size, flipped in ((2.0, 128, False), (5.0, 320, True)):
        for _ in range(25):
            sides = np.exp(rng.uniform(np.log(4), np.log(300), 2))
            box = np.concatenate((rng.uniform(-0.2, 1.2, 2) * (480, 360) - sides / 2, sides))
            region = Region.around(box, factor, size, 360, 480)
            expected, scale, mask = sample_target(frame, box, factor, size)
            found = cut_picture(open_picture(data, "here"), region, mirrored, flipped)
            assert np.array_equal(found, expected[:, ::-1] if flipped else expected), box
            assert (region.scale, region.mask().tolist()) == (scale, mask.tolist())
    for box in ([1000, 1000, 50, 50], [-400, 20, 30, 30], [100, -900, 60, 20]):  # beside the picture
        assert not cut_picture(open_picture(data, "here"), Region.around(box, 2.0, 64, 360, 480), mirrored).any()


def test_names_in_natural_order_and_missing_numbers():
    names = ["10.jpg", "9.JPG", "a2.png", "a10.png", "a.png", ".1.jpg", "notes.txt", "1.10.jpg", "1.9.jpg"]
    ordered = ["1.9.jpg", "1.10.jpg", "9.JPG", "10.jpg", "a.png", "a2.png", "a10.png"]
    assert images.image_names(names) == ordered
    clock = ["1700000000.0333.jpg", "1700000000.1.jpg", "1700000000.15.jpg", "1700000001.0.jpg"]
    assert images.image_names(reversed(clock)) == clock
    counted = [f"1.{number}.jpg" for number in range(1, 12)]  # 1.1 and 1.10 are one number
    assert images.image_names(sorted(counted)) == counted
    assert images.missing_numbers(["0.jpg", "1.jpg", "4.jpg"]) == [2, 3]
    assert images.missing_numbers(["frame_0009.png", "frame_0011.png"]) == [10]
    for names in ([], ["7.jpg"], ["1.jpg", "2.jpg"], ["a.jpg", "3.jpg"], ["0.jpg", "5.jpg", "10.jpg"]):
        assert images.missing_numbers(names) == []
