"""Pictures decoded in parts: the same pixels as of the whole, and nothing damaged passes."""

import itertools

import cv2
import numpy as np
import pytest

from lib.utils import jpeg, picture
from lib.utils.crop import Region, cut_picture, sample_target
from lib.utils.image import ImageReadError, decode_image
from lib.utils.jpeg import decode_part, read_header, turbojpeg
from lib.utils.picture import DecodedPicture, JpegPicture, open_picture
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


def whole(data, reduction):
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    flags[8] = cv2.IMREAD_REDUCED_COLOR_8
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags[reduction])[:, :, ::-1]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("library", [True, False])
def test_a_part_is_what_the_whole_has_there(sampling, library, monkeypatch):
    if library and turbojpeg() is None:
        pytest.skip("libjpeg-turbo 3 is not installed")
    if not library:
        without_library(monkeypatch)
    rng = np.random.default_rng(0)
    for progressive, reduction in itertools.product((0, 1), (1, 2, 4, 8)):
        height, width = rng.integers(90, 240, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        options = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling], cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
        data = encode(pixels, *options, cv2.IMWRITE_JPEG_RST_INTERVAL, 5 * progressive)
        found, expected = open_picture(data, "here"), whole(data, reduction)
        assert (found.height, found.width) == (height, width)
        for _ in range(5):
            y, x = (np.sort(rng.choice(extent + 1, 2, replace=False)).tolist() for extent in expected.shape[:2])
            if library:
                assert decode_part(data, x, y, reduction) is not None
            assert np.array_equal(found.part(x, y, reduction), expected[slice(*y), slice(*x)]), (x, y, reduction)


def test_what_was_decoded_is_not_decoded_again(monkeypatch):
    calls = []
    monkeypatch.setattr(picture, "decode_part", lambda *args: calls.append(args[1:]))
    found = open_picture(encode(smooth()), "here")
    expected = found.part((0, 299), (0, 203))
    found = open_picture(encode(smooth()), "here")
    calls.clear()
    for x, y in (((20, 90), (30, 80)), ((20, 90), (30, 80)), ((21, 90), (31, 79))):
        assert np.array_equal(found.part(x, y), expected[slice(*y), slice(*x)])
    assert calls == [((20, 90), (30, 80), 1)]
    for x, y in (((20, 91), (30, 80)), ((20, 90), (29, 80))):
        assert np.array_equal(found.part(x, y), expected[slice(*y), slice(*x)])
    found.part((20, 30), (30, 40), 2)
    assert len(calls) == 4


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
    steps = [read_header(cv2.imencode(".jpg", smooth(), [cv2.IMWRITE_JPEG_QUALITY, q])[1].tobytes()) for q in (50, 75)]
    assert steps[0].coarseness == pytest.approx(2 * steps[1].coarseness, rel=0.02)
    for cut in (0, 1, 2, 3, 20, 100, header.scan - 20):
        assert read_header(data[:cut]) is None
    assert read_header(cv2.imencode(".png", smooth())[1].tobytes()) is None


def test_detail_tells_sharp_pictures_from_enlarged_ones_at_any_quality():
    sharp = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    for quality in (50, 75, 95):
        details = []
        for pixels in (smooth(200, 300), cv2.GaussianBlur(sharp, (0, 0), 1.0), sharp):
            data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            details.append(read_header(data).detail(data))
        assert details[0] < 4.5 < 8 < details[1] < details[2]


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
        assert np.array_equal(open_picture(data, "here").part((9, 20), (3, 20)), whole(data, 1)[3:20, 9:20])
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


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_reduced_cut_lies_where_the_exact_one_does(reduction, mirrored, monkeypatch):
    """How far waves have moved from one crop to the other follows from their slopes; a pixel too far is too much."""
    height, width = 763, 1021
    y, x = np.mgrid[0:height, 0:width] * (np.pi / 20 / reduction)
    waves = np.rint(127 + 100 * np.stack((np.sin(x), np.sin(y), np.sin(x + y)), axis=2)).astype(np.uint8)
    found = open_picture(encode(waves, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS["444"]), "here")
    monkeypatch.setattr(type(found), "reduction", lambda *_: reduction)
    rng, ways = np.random.default_rng(2), []
    for _ in range(5):
        side = rng.uniform(1.0, 1.4) * 64 * reduction / 2
        box = np.array([*rng.uniform(0.5, 0.5 * np.array((width, height)) / side) * side, side, side])
        region = Region.around(box, 2.0, 64, height, width)
        exact, reduced = (cut_picture(found, region, mirrored, True, way).astype(float) for way in (False, True))
        for axis, channel in ((1, 0), (0, 1)):
            slope, change = np.gradient(exact, axis=axis)[..., channel], (reduced - exact)[..., channel]
            shown = ~region.mask()[:, ::-1]
            ways.append((slope * change)[shown].sum() / (slope**2)[shown].sum() / region.scale)
        assert np.abs(reduced - exact).mean() < 1
        assert not reduced[region.mask()[:, ::-1]].any()
    assert np.abs(ways).max() < 0.1  # pixels of the frame


def test_a_picture_is_reduced_only_as_far_as_the_crop_and_the_detail_allow():
    def reductions(pixels, *shrinks, size=10**6):
        data = encode(pixels)
        return [open_picture(data, "here").reduction(shrink, size) for shrink in shrinks]

    video, sharp = smooth(400, 600), np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    assert reductions(video, 0.5, 1.0, 1.99, 2.0, 3.9) == [1, 1, 1, 2, 2]
    assert reductions(np.full((400, 600, 3), 90, np.uint8), 2.0, 4.0, 7.9, 8.0, 100) == [2, 4, 4, 8, 8]
    assert reductions(sharp, 2.0, 4.0, 100) == [1, 1, 1]
    assert reductions(video, 2.0, 4.0, size=1000) == [1, 1]


def test_a_region_beside_the_picture_is_black():
    found = open_picture(encode(smooth()), "here")
    for box in ([1000, 1000, 50, 50], [-400, 20, 30, 30], [100, -900, 60, 20]):
        assert not cut_picture(found, Region.around(box, 2.0, 64, 203, 299), True, True, True).any()
