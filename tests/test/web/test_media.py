"""The server's directories: what lies in them can be chosen, and nothing else."""

import os

import pytest

from lib.test.web.clips import Media
from lib.utils.errors import UserError


@pytest.fixture
def media(tmp_path):
    """`clips` and `more` are given; `secret` lies beside them, and links lead there and about."""
    for name in ("clips/inner/frames", "more", "secret", "clips-other"):
        (tmp_path / name).mkdir(parents=True)
    clips = ("clips/a.mp4", "clips/inner/b.MKV", "clips/notes.txt", "clips/.hidden.mp4", "more/c.avi")
    for name in (*clips, "secret/s.mp4", "secret/s.jpg", "clips-other/o.mp4", "top.mp4"):
        (tmp_path / name).touch()
    for index in range(3):
        (tmp_path / f"clips/inner/frames/{index}.jpg").touch()
    (tmp_path / "clips/out").symlink_to(tmp_path / "secret")
    (tmp_path / "clips/out.mp4").symlink_to(tmp_path / "secret/s.mp4")
    (tmp_path / "clips/over.mp4").symlink_to(tmp_path / "more/c.avi")
    (tmp_path / "clips/loop.mp4").symlink_to(tmp_path / "clips/loop.mp4")
    os.mkfifo(tmp_path / "clips/pipe.mp4")  # whoever opened it would wait for ever
    return Media([tmp_path / "clips", tmp_path / "more"])


def test_directories_and_videos_are_listed(media):
    assert [(each["name"], each["path"]) for each in media.list("")["entries"]] == [("clips", "0"), ("more", "1")]
    listed = [(each["name"], each["kind"]) for each in media.list("0")["entries"]]
    assert listed == [("inner", "folder"), ("a.mp4", "video"), ("over.mp4", "video")]
    assert media.list("0/inner/frames") == {"path": "0/inner/frames", "frames": 3, "entries": []}
    assert media.find("0/inner/b.MKV").name == "b.MKV"
    assert media.find("0/over.mp4").name == "c.avi"  # a link from one of the directories into another


@pytest.mark.parametrize(
    "name",
    [
        *("0/..", "0/../secret/s.mp4", "0/../top.mp4", "0/inner/../../secret/s.mp4", "0/../clips-other/o.mp4"),
        *("0/out/s.mp4", "0/out", "0/out.mp4", "0/loop.mp4", "0/pipe.mp4", "0//etc/passwd", "/etc/passwd"),
        *("2/a.mp4", "-3/a.mp4", "²/a.mp4", "0/a.mp4\0", "0/..\\secret", "0/%2e%2e/top.mp4", "", ".."),
        *("0/" + "a" * 5000, "9" * 5000, "0/\udce9.mp4"),
    ],
)
def test_nothing_leads_out_of_them(media, name):
    for act in (media.find, media.clip):
        with pytest.raises(UserError, match="among the server's directories"):
            act(name)


@pytest.mark.parametrize(
    "make", [lambda p: p.symlink_to("../../../secret/s.jpg"), lambda p: p.symlink_to(p), os.mkfifo]
)
def test_pictures_of_a_folder_do_not_lead_out_either(media, tmp_path, make):
    """A folder is opened as a clip: its pictures may be links, too, or nothing that can be read to its end."""
    frames = tmp_path / "clips/inner/frames"
    (frames / "3.jpg").symlink_to(frames / "0.jpg")
    assert media.clip("0/inner/frames") == frames
    make(frames / "4.jpg")
    with pytest.raises(UserError, match=r"the picture 4.jpg of frames is no file, or a link out of the server's dir"):
        media.clip("0/inner/frames")


def test_a_directory_that_is_none_is_refused_at_the_start(tmp_path):
    with pytest.raises(UserError, match="--media .*missing is not a directory"):
        Media([tmp_path / "missing"])
