"""Clips: frames by their index, and files that mean harm."""

import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from lib.test.video.source import open_source
from lib.test.web.clips import Limits, open_clip
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY
from tests.test.web.made_clips import index_of, numbered, write_clip, write_images, write_numbered

COUNT = 40
SMALL = Limits(frames=50, side=1000)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("mp4", "libx264", {"bf": "3"}),  # frames are stored in another order than they are shown
        ("mkv", "libx264", {"x264-params": "open-gop=1:bframes=3"}),
        ("webm", "libvpx", {"b": "2M"}),
        ("h264", "libx264", {}),  # has neither times nor a length
    ],
)
def test_a_frame_is_found_again_by_its_index(name, codec, options, tmp_path):
    clip = open_clip(write_numbered(tmp_path / f"clip.{name}", COUNT, codec=codec, **options), "clip", SMALL)
    # Seen in order first, and then out of it; ahead of what was seen, too.
    for start in (0, 30, 13, 12, 11, 1, COUNT - 1, 24):
        assert index_of(next(clip.frames(start))) == start
    assert [index_of(image) for image in clip.frames()] == list(range(COUNT))
    assert clip.total == COUNT
    assert next(clip.frames(COUNT), None) is None


def test_a_seek_decodes_little(tmp_path, monkeypatch):
    clip = open_clip(write_numbered(tmp_path / "clip.mp4", COUNT), "clip", SMALL)
    list(clip.frames())
    sizes = []
    monkeypatch.setattr(Limits, "check_size", lambda *size: sizes.append(size))  # called for each frame
    next(clip.frames(39))
    assert 0 < len(sizes) <= 12 + 8 + 2


def test_telephones_that_film_lying_are_turned(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:16, :16] = 255
    path = write_clip(tmp_path / "clip.mp4", [image] * 3)
    data, upright = path.read_bytes(), struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:at] + turned + data[at + 36 :])
    ours, theirs = next(open_clip(path, "clip", SMALL).frames()), next(open_source(str(path)).frames)
    assert np.array_equal(ours, theirs)
    assert not np.array_equal(ours, image)


def test_a_video_that_names_other_files_is_refused(tmp_path):
    inner = write_numbered(tmp_path / "secret.ts", 5)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\n{inner}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{inner.name}'\n"
    for name, text in (("list.m3u8", playlist), ("list.ffconcat", concat), ("video", concat), ("video.mp4", playlist)):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="is not a video"):
            open_clip(tmp_path / name, name, SMALL)


def test_damage_within_a_video_is_said_and_what_is_before_it_is_given(tmp_path):
    path = write_numbered(tmp_path / "clip.avi", COUNT, codec="mjpeg")
    data = path.read_bytes()
    at = [i for i in range(data.index(b"movi"), len(data)) if data.startswith(b"00dc", i)][20]
    (size,) = struct.unpack("<I", data[at + 4 : at + 8])
    path.write_bytes(data[: at + 8] + bytes(size) + data[at + 8 + size :])
    given = []
    with pytest.raises(UserError, match="clip cannot be decoded after frame 20: it is damaged"):
        given.extend(open_clip(path, "clip", SMALL).frames())
    assert [index_of(image) for image in given] == list(range(20))


def test_too_long_a_clip_is_refused_whatever_its_header_says(tmp_path):
    with pytest.raises(UserError, match="has 60 frames; at most 50 are taken"):
        open_clip(write_numbered(tmp_path / "long.mp4", 60), "long", SMALL)
    with pytest.raises(UserError, match="has 51 frames; at most 50 are taken"):
        open_clip(write_images(tmp_path / "folder", 51), "folder", SMALL)
    secret = open_clip(write_numbered(tmp_path / "long.h264", 60), "long", SMALL)
    with pytest.raises(UserError, match="long is longer than the 50 frames that are taken here"):
        list(secret.frames())


BOMB = """
import resource, sys
from pathlib import Path
from lib.test.web.clips import Limits, open_clip
from lib.utils.errors import UserError

used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = used()
for path in map(Path, sys.argv[1:]):
    try:
        list(open_clip(path, path.name, Limits(side=1000)).frames())
    except UserError as error:
        print(error)
print(used() - before)
"""


def test_a_bomb_is_refused_before_its_frame_is_there(tmp_path):
    """Tiny files whose frames take 27 MB each; one tells the truth, one's container lies, one grows later."""
    large = np.zeros((3000, 3000, 3), np.uint8)
    honest = write_clip(tmp_path / "honest.mp4", [large], preset="ultrafast")
    lying = tmp_path / "lying.mp4"
    data = honest.read_bytes()
    for form, size, lie in ((">HH", (3000, 3000), (64, 48)), (">II", (3000 << 16, 3000 << 16), (64 << 16, 48 << 16))):
        data = data.replace(struct.pack(form, *size), struct.pack(form, *lie))
    lying.write_bytes(data)
    growing = tmp_path / "growing.ts"
    tail = write_clip(tmp_path / "tail.ts", [large], preset="ultrafast")
    growing.write_bytes(write_numbered(tmp_path / "head.ts", 12).read_bytes() + tail.read_bytes())
    png, claim = write_images(tmp_path / "png", 1, ".png"), write_images(tmp_path / "claim", 1, ".png")
    Image.fromarray(large).save(png / "1.png")
    data = (claim / "1.png").read_bytes()
    at = data.index(b"IDAT")  # a part of a PNG that says it has 3 GB
    (claim / "1.png").write_bytes(data[: at - 4] + struct.pack(">I", 3 << 30) + data[at:])
    files = (honest, lying, png, growing, claim)
    run = subprocess.run([sys.executable, "-c", BOMB, *files], cwd=REPOSITORY, capture_output=True, text=True)
    *said, used = run.stdout.splitlines()
    assert len(said) == 5, run.stderr
    assert all("too large" in line and "at most 1000x1000 pixels" in line for line in said[:3])
    assert "larger than 1000x1000" in said[3]
    assert said[4] == "1.png of claim is not a picture, is damaged or cannot be read"
    assert int(used) < 20


def test_a_folder_is_read_in_natural_order_and_pictures_that_are_none_are_named(tmp_path):
    clip = open_clip(write_images(tmp_path / "frames", 12), "frames", SMALL)
    assert (clip.total, clip.size) == (12, (64, 48))
    assert [index_of(image) for image in clip.frames(8)] == [8, 9, 10, 11]
    (clip.path / "2.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="^2.jpg of frames is not a picture, is damaged or"):
        list(clip.frames())
    cv2.imwrite(str(clip.path / "2.jpg"), numbered(1, (1200, 10)))
    with pytest.raises(UserError, match=r"2.jpg are too large \(1200x10 pixels\)"):
        list(clip.frames())
