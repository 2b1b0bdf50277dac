"""Pictures decoded in parts: the same pixels as of the whole, and nothing damaged passes."""

import cv2
import numpy as np
import pytest

from lib.data import jpeg, picture
from lib.data.images import ImageReadError, decode_image
from lib.data.jpeg import decode_part, read_header, turbojpeg
from lib.data.picture import DecodedPicture, JpegPicture, cut_picture, open_picture
from lib.utils.crop import Region, sample_target
from tests.golden.fill import image

SAMPLINGS = {"420": 0x221111, "422": 0x211111, "440": 0x121111, "444": 0x111111, "411": 0x411111}


def smooth(height=203, width=299, seed=0):
    """A picture without much detail, such as video has."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(pixels, *options):
    return cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85, *options])[1].tobytes()


def without_library(monkeypatch):
    monkeypatch.setattr(picture, "decode_part", lambda *_: None)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("library", [True, False])
def test_a_part_is_what_the_whole_has_there(sampling, library, monkeypatch):
    if library and turbojpeg() is None:
        pytest.skip("libjpeg-turbo 3 is not installed")
    if not library:
        without_library(monkeypatch)
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
            if library:
                assert decode_part(data, x, y) is not None
            assert np.array_equal(found.part(x, y), expected[slice(*y), slice(*x)]), (x, y)


def test_what_was_decoded_is_not_decoded_again(monkeypatch):
    calls = []
    monkeypatch.setattr(picture, "decode_part", lambda *args: calls.append(args[1:]))
    found = open_picture(encode(smooth()), "here")
    expected = found.part((0, 299), (0, 203))
    found = open_picture(encode(smooth()), "here")
    calls.clear()
    for x, y in (((20, 90), (30, 80)), ((20, 90), (30, 80)), ((21, 90), (31, 79))):
        assert np.array_equal(found.part(x, y), expected[slice(*y), slice(*x)])
    assert calls == [((20, 90), (30, 80))]
    for x, y in (((20, 91), (30, 80)), ((20, 90), (29, 80))):
        assert np.array_equal(found.part(x, y), expected[slice(*y), slice(*x)])
    assert len(calls) == 3


def test_grey_files_and_other_formats_are_read():
    pixels = smooth()
    for suffix in (".png", ".bmp", ".webp"):
        data = cv2.imencode(suffix, pixels)[1].tobytes()
        found = open_picture(data, "here")
        assert isinstance(found, DecodedPicture)
        assert np.array_equal(found.part((3, 40), (5, 9)), decode_image(data, "here")[5:9, 3:40])
    data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[1].tobytes()
    found = open_picture(data, "here")
    assert isinstance(found, JpegPicture)
    assert np.array_equal(found.part((3, 40), (5, 9)), decode_image(data, "here")[5:9, 3:40])


def test_a_picture_that_a_camera_turned_is_turned():
    data = encode(smooth(60, 100))
    orientation = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = data[:2] + b"\xff\xe1" + (len(orientation) + 2).to_bytes(2, "big") + orientation + data[2:]
    found = open_picture(turned, "here")
    assert (found.height, found.width) == (100, 60)
    assert np.array_equal(found.part((0, 60), (0, 100)), decode_image(turned, "here"))


def test_what_a_header_says():
    data = encode(smooth(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    header = read_header(data)
    assert (header.width, header.height, header.has_exif) == (299, 203, False)
    for cut in (0, 1, 2, 3, 20, 100, header.scan - 20):
        assert read_header(data[:cut]) is None
    assert read_header(cv2.imencode(".png", smooth())[1].tobytes()) is None


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize("lost", [1, 2, 10, 1000, "half", "most"])
@pytest.mark.parametrize("progressive", [0, 1])
def test_a_file_that_was_cut_off_is_named(library, lost, progressive, monkeypatch):
    if not library:
        without_library(monkeypatch)
    data = encode(smooth(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    keep = {"half": len(data) // 2, "most": 300}.get(lost) or len(data) - lost
    with pytest.raises(ImageReadError, match="cannot decode image here: the file is damaged"):
        open_picture(data[:keep], "here").part((0, 20), (0, 20))


def test_a_header_of_billions_of_pixels_is_damage():
    data = bytearray(encode(smooth(), cv2.IMWRITE_JPEG_PROGRESSIVE, 0))
    place = data.find(b"\xff\xc0")
    data[place + 5 : place + 9] = b"\xff\xf0\xff\xf0"
    with pytest.raises(ImageReadError, match="here"):
        decode_image(bytes(data), "here")
    with pytest.raises(ImageReadError, match="here"):
        open_picture(bytes(data), "here").part((30000, 30100), (30000, 30100))


def test_an_end_inside_a_thumbnail_is_no_end():
    """A truncated file may hold a whole small one in its notes."""
    data, small = encode(smooth()), encode(smooth(48, 48))
    comment = b"\xff\xe2" + (len(small) + 2).to_bytes(2, "big") + small
    with pytest.raises(ImageReadError, match="here"):
        open_picture((data[:2] + comment + data[2:])[:-500], "here").part((0, 20), (0, 20))
    assert open_picture(data[:2] + comment + data[2:] + b"more", "here").part((0, 20), (0, 20)).shape == (20, 20, 3)


def test_what_the_library_objects_to_is_left_to_opencv():
    """A file with faults that OpenCV puts up with is as good as it was."""
    data = encode(smooth(), cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
    middle = len(data) // 2
    faulty = data[:middle] + bytes(60) + data[middle + 60 :]
    expected = cv2.imdecode(np.frombuffer(faulty, np.uint8), cv2.IMREAD_COLOR)
    if expected is None:
        pytest.skip("this OpenCV refuses the file, too")
    found = open_picture(faulty, "here").part((0, 299), (0, 203))
    assert np.array_equal(found, expected[:, :, ::-1])


def test_without_the_library_opencv_decodes(monkeypatch):
    monkeypatch.setattr(jpeg, "_candidates", lambda: iter(["no-such-library.so"]))
    turbojpeg.cache_clear()
    try:
        data = encode(smooth())
        assert decode_part(data, (0, 20), (0, 20)) is None
        assert np.array_equal(open_picture(data, "here").part((9, 20), (3, 20)), decode_image(data, "here")[3:20, 9:20])
    finally:
        turbojpeg.cache_clear()


def boxes(rng, number):
    """xywh around and beyond a picture of 360x480."""
    for _ in range(number):
        size = np.exp(rng.uniform(np.log(4), np.log(300), 2))
        yield np.concatenate((rng.uniform(-0.2, 1.2, 2) * (480, 360) - size / 2, size))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_cut_is_the_crop_of_the_whole(mirrored):
    rng = np.random.default_rng(1)
    data = encode(image("crop.image", 360, 480))
    pixels = decode_image(data, "here")
    frame = pixels[:, ::-1] if mirrored else pixels
    for factor, size, flipped in ((2.0, 128, False), (5.0, 320, True)):
        for box in boxes(rng, 25):
            region = Region.around(box, factor, size, 360, 480)
            expected, scale, mask = sample_target(frame, box, factor, size)
            found = cut_picture(open_picture(data, "here"), region, mirrored, flipped)
            assert np.array_equal(found, expected[:, ::-1] if flipped else expected), box
            assert (region.scale, region.mask().tolist()) == (scale, mask.tolist())


def test_a_region_beside_the_picture_is_black():
    found = open_picture(encode(smooth()), "here")
    for box in ([1000, 1000, 50, 50], [-400, 20, 30, 30], [100, -900, 60, 20]):
        assert not cut_picture(found, Region.around(box, 2.0, 64, 203, 299), True, True).any()
