"""The server as users start it: pages, uploads, what is refused, and what is left behind."""

import os
import re
import socket
import subprocess
import sys

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lib.utils.workspace import REPOSITORY
from tests.processes import wait_until
from tests.test.web.made_clips import index_of, noise, write_clip, write_images, write_numbered
from tests.test.web.serving import Page, Server

COUNT = 30
STILL = {"key": "still", "engine": "torch"}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    write_numbered(folder / "clip.mp4", COUNT)
    write_images(folder / "frames", 5)
    os.link(folder / "clip.mp4", os.fsencode(folder) + b"/caf\xe9.mp4")  # a name that is not UTF-8
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, media):
    limits = ["--max_upload", "4", "--max_side", "1000", "--max_frames", "400"]
    server = Server(tmp_path_factory.mktemp("server"), "--tracker", "still", "--media", str(media), *limits)
    yield server
    server.stop()
    assert list(server.files.glob("stark-web-*")) == []  # nothing is left behind
    assert not {"Traceback", "ASGI"} & set(re.findall(r"\w+", server.log.read_text()))


@pytest.fixture
def page(server):
    with Page(server) as page:
        yield page


def begin(page, box=(4, 4, 20, 20)):
    page.say("draw", number=1, frame=0, box=box)
    page.say("track", **STILL)


def tracked_to_the_end(page):
    """The frames that come until tracking ends, and their pictures."""
    before, _ = page.until("ended")
    return [(message, picture) for message, picture in before if message["type"] == "frame"]


def test_the_token_is_needed_everywhere(server):
    for path, status in (("/", 200), ("/app.js", 200), ("/api/x/video", 404)):
        assert server.get(path, Cookie="other=1")[0] == 401
        assert server.get(path)[0] == status
        policy = "default-src 'none'; script-src 'self'; style-src 'self';"  # nothing from elsewhere is loaded
        assert server.headers["content-security-policy"].startswith(policy)
        assert server.headers["x-content-type-options"] == "nosniff"
    for headers in ({"Cookie": "other=1"}, {"Origin": "http://evil.example"}):
        with pytest.raises(InvalidStatus, match="403"):
            Page(server, **headers)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--media", "missing"], "error: --media missing is not a directory"),
        (["--tracker", "still", "--engine", "65536"], "error: unknown engine"),
        (["--port", "99999"], "choose another --port or --host"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_line(options, said):
    command = [sys.executable, "tracking/web_demo.py", "--port", "0", *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_clips_and_trackers_are_listed_and_opened(page):
    assert page.greeting["trackers"] == ["still", "stark_lightning_X_trt mini", "csrt", "kcf"]
    page.say("browse", path="0")
    _, listed = page.until("listed")
    assert [each["name"] for each in listed["entries"]] == ["frames", "caf\udce9.mp4", "clip.mp4"]
    for entry, frames in zip(listed["entries"], (5, COUNT, COUNT), strict=True):
        page.say("open_media", path=entry["path"])
        _, opened = page.until("opened")
        assert (opened["name"], opened["frames"], opened["box"]) == (entry["name"], frames, None)
    for kind in ("open_media", "browse"):
        assert "among the server's directories" in page.refusal(kind, path="0/../secret.mp4")
    assert "no sample '../x'" in page.refusal("open_sample", name="../x")


def test_addresses_lead_nowhere_else(server, page):
    for path in (
        *("/../server.py", "/..%2fserver.py", "/%2e%2e/server.py", "//etc/passwd", "/docs", "/openapi.json"),
        *("/api/../../etc/passwd", "/api/{}/..%2f..%2fetc%2fpasswd", "/api/{}/upload1", "/api/nobody/video"),
    ):
        assert server.get(path.format(page.name))[0] == 404, path


def test_a_video_is_uploaded_tracked_and_taken_home_by_its_page_alone(server, page, tmp_path):
    page.open_upload(write_numbered(tmp_path / "a.mp4", COUNT), "../../my clip!.mp4")
    assert [path.name for path in server.folder(page).rglob("*") if path.is_file()] == ["video"]
    begin(page)
    frames = tracked_to_the_end(page)
    assert [message["frame"] for message, _ in frames] == list(range(COUNT))
    assert index_of(cv2.imdecode(np.frombuffer(frames[20][1], np.uint8), cv2.IMREAD_COLOR)) == 20
    page.say("export", what="table")
    page.until("exported")
    status, body = server.get(f"/api/{page.name}/table")
    assert (status, len(body.splitlines())) == (200, 1 + COUNT)
    with Page(server) as other:
        assert server.get(f"/api/{other.name}/table")[0] == 404


def test_uploads_that_are_too_large_are_refused_and_not_kept(server, page):
    answer = {"detail": "the upload is too large: at most 4 MB are taken here"}
    assert page.upload("big.mp4", bytes(5 * 2**20)) == (413, answer)
    without_length = {"Transfer_Encoding": "chunked"}
    assert page.upload("big.mp4", iter([bytes(2**20)] * 9), **without_length)[0] == 413
    assert max(path.stat().st_size for path in server.folder(page).rglob("video")) <= 4 * 2**20
    assert page.upload("1.png", bytes(3 * 2**20))[0] == 200
    assert page.upload("2.png", bytes(3 * 2**20), more=True)[0] == 413


def test_an_upload_that_is_no_video_or_cut_off_does_no_harm(server, page, tmp_path):
    page.open_upload(write_numbered(tmp_path / "a.mp4", COUNT))
    for name, data in (("empty.mp4", b""), ("../..", b"\0" * 99), ("\0.avi", b"RIFF")):
        assert page.upload(name, data)[0] == 200
        assert "is not a video" in page.refusal("open_upload")
    host, port = server.base.removeprefix("http://").split(":")
    head = f"POST /api/{page.name}/upload?name=a.mp4 HTTP/1.1\r\nHost: {host}:{port}\r\n"
    head += f"Cookie: {server.cookie['Cookie']}\r\nContent-Length: {3 * 2**20}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + bytes(2**20))
        assert wait_until(lambda: [each for each in server.folder(page).rglob("video") if each.stat().st_size > 2**19])
    begin(page)
    assert len(tracked_to_the_end(page)) == COUNT  # the clip before stays
    page.open_upload(write_numbered(tmp_path / "a.mp4", COUNT))


def test_a_page_that_takes_nothing_neither_fills_memory_nor_holds_up_others(server, tmp_path):
    """It waits, and gets every frame when it takes them."""
    clip = write_clip(tmp_path / "noise.mp4", noise(150, (320, 240)), preset="ultrafast", crf="38")
    with Page(server) as slow, Page(server) as other:
        slow.open_upload(clip)
        before = server.memory()
        begin(slow)
        other.say("open_sample", name="carphone")
        other.until("picture")
        begin(other)
        assert len(tracked_to_the_end(other)) == 120
        assert server.memory() - before < 60
        assert [message["frame"] for message, _ in tracked_to_the_end(slow)] == list(range(150))
        begin(slow)
        slow.socket.socket.close()  # as when the browser is killed: its work ends and its files go
    assert wait_until(lambda: not any(path.is_dir() for path in server.files.glob("stark-web-*/*")))


@pytest.mark.parametrize(
    "harm",
    [
        lambda page: all(page.say("add") is None for _ in range(10**6)),
        lambda page: page.say("x" * 2**16) or page.hear(),
    ],
)
def test_too_much_ends_its_page_alone(server, harm):
    with Page(server) as page, Page(server) as other:
        page.socket.send(b"\0\1")
        assert "does not understand" in page.hear()[0]["text"]
        before = server.memory()
        with pytest.raises(ConnectionClosed):
            harm(page)
        assert server.memory() - before < 30
        other.say("open_sample", name="carphone")
        other.until("opened")
