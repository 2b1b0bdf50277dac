"""Who is let in: by name, by origin, by token; and what of the server's directories can be chosen."""

import os

import pytest
from fastapi.requests import HTTPConnection
from starlette.datastructures import Headers

from lib.test.web.clips import Media
from lib.test.web.server import choose_token, refusal
from lib.utils.errors import UserError

TOKEN = "correct-horse-battery"
COOKIE = f"stark_token_8080={TOKEN}"


def ask(token=None, path="/", query="", **headers):
    """Status of the answer to a request, 200 where it is let in; and the answer."""
    scope = {"type": "http", "scheme": "http", "path": path, "server": ("127.0.0.1", 8080)}
    scope |= {"query_string": query.encode(), "headers": Headers({"host": "127.0.0.1:8080"} | headers).raw}
    answer = refusal(HTTPConnection(scope), token)
    return answer.status_code if answer else 200, answer


def test_a_token_is_made_up_beyond_this_machine():
    assert choose_token("127.0.0.1", None) is None
    assert choose_token("::1", "given-one") == "given-one"
    assert len(choose_token("0.0.0.0", None)) >= 32
    for bad in ("short", "with a space", "long-enough\n"):
        with pytest.raises(UserError, match="at least 8 letters"):
            choose_token("127.0.0.1", bad)


def test_without_a_token_only_names_of_this_machine_are_served():
    for host in ("127.0.0.1", "localhost:9999", "[::1]:8080"):  # as through a tunnel
        assert ask(host=host)[0] == 200
    # A stranger's page whose name leads here (DNS rebinding).
    assert ask(host="evil.example:8080", origin="http://evil.example:8080")[0] == 403
    assert ask(host="[bad")[0] == ask(host="")[0] == 403
    assert ask(origin="http://127.0.0.1:8080")[0] == 200


def test_pages_of_others_are_refused():
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "http://[bad", ""):
        assert ask(origin=origin)[0] == ask(TOKEN, origin=origin, cookie=COOKIE)[0] == 403


def test_nothing_is_served_without_the_token():
    for path, query in (("/", ""), ("/app.js", f"token={TOKEN}"), ("/", "token=wrong"), ("/", "token=")):
        assert ask(TOKEN, path, query)[0] == 401
    for cookie in ("stark_token_8080=wrong", f"stark_token_9090={TOKEN}", f"other={TOKEN}", "=;=", "stark_token_8080"):
        assert ask(TOKEN, cookie=cookie)[0] == 401


def test_the_token_moves_from_the_address_to_a_cookie():
    status, answer = ask(TOKEN, query=f"token={TOKEN}")
    assert (status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(COOKIE)
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert ask(TOKEN, cookie=f"other=1; {COOKIE}")[0] == 200
    assert ask(TOKEN, cookie=COOKIE)[0] == 200
    # A token lets in by any name: a stranger's page has no cookie of this server.
    assert ask(TOKEN, cookie=COOKIE, host="workstation:8080")[0] == 200


@pytest.fixture
def directories(tmp_path):
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


def test_directories_and_videos_are_listed(directories):
    assert [(each["name"], each["path"]) for each in directories.list("")["entries"]] == [("clips", "0"), ("more", "1")]
    listed = [(each["name"], each["kind"]) for each in directories.list("0")["entries"]]
    assert listed == [("inner", "folder"), ("a.mp4", "video"), ("over.mp4", "video")]
    assert directories.list("0/inner/frames") == {"path": "0/inner/frames", "frames": 3, "entries": []}
    assert directories.find("0/inner/b.MKV").name == "b.MKV"
    assert directories.find("0/over.mp4").name == "c.avi"  # a link from one of the directories into another


def test_nothing_leads_out_of_them(directories):
    for name in (
        *("0/..", "0/../secret/s.mp4", "0/../top.mp4", "0/inner/../../secret/s.mp4", "0/../clips-other/o.mp4"),
        *("0/out/s.mp4", "0/out", "0/out.mp4", "0/loop.mp4", "0/pipe.mp4", "0//etc/passwd", "/etc/passwd"),
        *("2/a.mp4", "-3/a.mp4", "²/a.mp4", "0/a.mp4\0", "0/..\\secret", "0/%2e%2e/top.mp4", "", ".."),
        *("0/" + "a" * 5000, "9" * 5000, "0/\udce9.mp4"),
    ):
        for act in (directories.find, directories.clip):
            with pytest.raises(UserError, match="among the server's directories"):
                act(name)


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("../../../secret/s.jpg"), os.mkfifo])
def test_pictures_of_a_folder_do_not_lead_out_either(directories, tmp_path, make):
    frames = tmp_path / "clips/inner/frames"
    (frames / "3.jpg").symlink_to(frames / "0.jpg")
    assert directories.clip("0/inner/frames") == frames
    make(frames / "4.jpg")
    with pytest.raises(UserError, match=r"the picture 4.jpg of frames is no file, or a link out of the server's dir"):
        directories.clip("0/inner/frames")
