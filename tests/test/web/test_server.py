"""The server as users start it: sessions, uploads, what is refused, and what is left behind."""

import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lib.test.web.desk import WINDOW
from lib.test.web.server import choose_token
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY
from tests.test.web.made_clips import noise, numbered, write_clip, write_images, write_numbered
from tests.test.web.serving import TOKEN, Page, Server, wait_until

COUNT = 30
SESSIONS = 20
STILL = {"key": "still", "engine": "torch"}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    write_numbered(folder / "clip.mp4", COUNT)
    write_images(folder / "frames", 5)
    (folder / "notes.mp4").write_text("not a video")
    (folder / "out").symlink_to("/etc")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, media):
    limits = ["--max_sessions", str(SESSIONS), "--max_upload", "4", "--max_side", "1000", "--max_frames", "400"]
    server = Server(tmp_path_factory.mktemp("server"), "--tracker", "still", "--media", str(media), *limits)
    yield server
    server.stop()
    assert list(server.files.glob("stark-web-*")) == []  # nothing is left behind
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def page(server):
    with Page(server) as page:
        yield page


def brightness(picture):
    return float(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).mean())


# Who is let in


def test_the_token_is_needed_everywhere(server):
    for path in ("/", "/page/app.js", "/api/sessions/x/media"):
        assert server.get(path, Authorization="Bearer wrong")[0] == 401
    assert server.get("/")[0] == 200
    for headers in ({"Authorization": "Bearer wrong"}, {"Origin": "http://evil.example"}):
        with pytest.raises(InvalidStatus) as caught:
            Page(server, **headers)
        assert caught.value.response.status_code == 403


def test_a_token_is_made_up_beyond_this_machine():
    assert choose_token("127.0.0.1", None) is None
    assert choose_token("::1", "given-one") == "given-one"
    made = choose_token("0.0.0.0", None)
    assert len(made) >= 32
    assert made != choose_token("0.0.0.0", None)
    with pytest.raises(UserError, match="at least 8 letters"):
        choose_token("0.0.0.0", "short")
    with pytest.raises(UserError, match="at least 8 letters"):
        choose_token("127.0.0.1", "with a space")


@pytest.mark.parametrize(("option", "value"), [("max_upload", "inf"), ("idle_minutes", "nan"), ("max_side", "0")])
def test_limits_are_numbers_above_0(option, value):
    command = [sys.executable, "tracking/web_demo.py", f"--{option}", value]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith("every limit must be a number above 0")


# Clips


def test_a_page_is_told_what_there_is(page):
    greeting = page.greeting
    assert {each["name"] for each in greeting["samples"]} == {"bigbuckbunny", "carphone"}
    assert greeting["trackers"][0] == {"key": "still", "missing": "", "engine": False}
    by_key = {each["key"]: each for each in greeting["trackers"]}
    assert by_key["stark_lightning_X_trt mini"] == {"key": "stark_lightning_X_trt mini", "missing": "", "engine": True}
    assert "checkpoints/train" in by_key["stark_s baseline"]["missing"]
    assert {"name": "torch", "missing": ""} in greeting["engines"]


def test_clips_of_the_server_are_listed_and_opened(server, page):
    status, body = server.get(f"/api/sessions/{page.name}/media?path=0")
    assert status == 200
    assert [each["name"] for each in json.loads(body)["entries"]] == ["frames", "clip.mp4", "notes.mp4"]
    for path, name, frames in (("0/clip.mp4", "clip.mp4", COUNT), ("0/frames", "frames", 5)):
        page.say("open_media", path=path)
        _, opened = page.until("opened")
        assert (opened["name"], opened["frames"], opened["box"]) == (name, frames, None)
    assert page.refusal("open_media", path="0/notes.mp4").startswith("notes.mp4 is not a video")


@pytest.mark.parametrize("path", ["0/../secret.mp4", "0/out/passwd", "../../etc/passwd", "/etc/passwd", "0/%2e%2e/x"])
def test_paths_do_not_lead_out(server, page, path):
    assert "among the server's directories" in page.refusal("open_media", path=path)
    assert server.get(f"/api/sessions/{page.name}/media?path={path}")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/page/../server.py",
        "/page/..%2fserver.py",
        "/page/%2e%2e/server.py",
        "/page//etc/passwd",
        "/api/sessions/../../etc/passwd/media",
        "/api/sessions/{}/files/..%2f..%2fetc%2fpasswd",
        "/api/sessions/{}/files/upload1",
        "/api/sessions/nobody/files/video",
        "/docs",
        "/openapi.json",
    ],
)
def test_addresses_lead_nowhere_else(server, page, path):
    assert server.get(path.format(page.name))[0] == 404


def test_a_sample_is_opened_with_its_box(page):
    page.say("open_sample", name="carphone")
    _, opened = page.until("opened")
    assert (opened["frames"], opened["box"]) == (120, [58, 12, 57, 87])
    assert "no sample '../x'" in page.refusal("open_sample", name="../x")


# Uploads


def test_a_video_is_uploaded_tracked_and_taken_home(server, page, tmp_path):
    opened = page.open_upload(write_numbered(tmp_path / "a.mp4", COUNT), "../../my clip!.mp4")
    assert (opened["frames"], opened["width"], opened["height"]) == (COUNT, 64, 48)
    assert {path.name for path in server.folder(page).rglob("*")} == {"upload1", "video"}
    page.say("draw", number=1, frame=0, box=[4, 4, 20, 20])
    page.say("track", **STILL)
    before, ended = page.until("ended")
    frames = [(message, picture) for message, picture in before if message["type"] == "frame"]
    assert [message["frame"] for message, _ in frames] == list(range(COUNT))
    assert frames[20][0]["objects"] == [{"object": 1, "box": [4.0, 4.0, 20.0, 20.0], "score": None, "drawn": False}]
    assert brightness(frames[20][1]) == pytest.approx(4 * 20, abs=2)
    page.say("export", what="table")
    page.until("exported")
    status, body = server.get(f"/api/sessions/{page.name}/files/table")
    assert status == 200
    assert len(body.splitlines()) == 1 + COUNT
    # Another page has no way to it.
    with Page(server) as other:
        assert server.get(f"/api/sessions/{other.name}/files/table")[0] == 404


def test_pictures_are_uploaded_one_after_the_other(page, tmp_path):
    files = sorted(write_images(tmp_path / "frames", 4).iterdir())
    for number, path in enumerate(files):
        status, answer = page.upload(path.name, path.read_bytes(), more=number > 0)
        assert (status, answer["pictures"]) == (200, number + 1)
    page.say("open_upload")
    assert page.until("opened")[1]["frames"] == 4
    assert page.upload("one.png", files[0].read_bytes())[0] == 200
    assert "single picture" in page.refusal("open_upload")
    status, answer = page.upload("clip.mp4", b"video", more=True)
    assert (status, answer["error"]) == (413, "upload one video, or the pictures of one sequence")


def test_what_is_too_large_is_refused_and_leaves_nothing(server, page):
    status, answer = page.upload("big.mp4", bytes(5 * 2**20))
    assert (status, answer["error"]) == (413, "the upload is too large: at most 4 MB are taken here")
    # Without a length before it, and in parts that are small enough each.
    status, answer = page.upload("big.mp4", iter([bytes(2**20)] * 5), Transfer_Encoding="chunked")
    assert status == 413
    assert page.upload("1.png", bytes(3 * 2**20))[0] == 200
    assert page.upload("2.png", bytes(3 * 2**20), more=True)[0] == 413
    assert wait_until(lambda: sum(path.stat().st_size for path in server.folder(page).rglob("*")) < 2**20)


@pytest.mark.parametrize("announced", [3 * 2**20, 5 * 2**20])
def test_an_upload_that_is_cut_off_leaves_nothing(server, page, announced):
    """Whether it would have been taken or refused: the page was closed, or the connection lost."""
    host, port = server.base.removeprefix("http://").split(":")
    head = f"POST /api/sessions/{page.name}/upload?name=a.mp4 HTTP/1.1\r\nHost: {host}:{port}\r\n"
    head += f"Authorization: Bearer {TOKEN}\r\nContent-Length: {announced}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + bytes(2**20))
        assert wait_until(lambda: page.upload("b.mp4", b"b")[0] == 409)  # it is arriving
    assert wait_until(lambda: page.upload("b.mp4", b"b")[0] == 200)
    assert "Traceback" not in server.log.read_text()


def test_what_is_no_video_is_said_and_the_clip_before_stays(page, tmp_path):
    page.open_upload(write_numbered(tmp_path / "a.mp4", COUNT))
    page.say("draw", number=1, frame=0, box=[4, 4, 20, 20])
    for name, data in (("no.mp4", b"no video"), ("empty.mp4", b""), ("../..", b"\0" * 99), ("\0.avi", b"RIFF")):
        assert page.upload(name, data)[0] == 200
        assert "is not a video" in page.refusal("open_upload")
    bomb = write_clip(tmp_path / "bomb.mp4", [np.zeros((1200, 1200, 3), np.uint8)])
    assert page.upload("bomb.mp4", bomb.read_bytes())[0] == 200
    assert "too large (1200x1200 pixels): at most 1000x1000" in page.refusal("open_upload")
    page.say("track", **STILL)
    frames, _ = page.until("ended")
    assert sum(message["type"] == "frame" for message, _ in frames) == COUNT


def test_nonsense_is_refused_and_the_page_goes_on(page):
    for text in ("", "{", "[]", "null", '{"type": "close"}', '{"type": "_begin"}', '{"type": "begin", "folder": "/"}'):
        page.socket.send(text)
        assert "does not understand" in page.hear()[0]["text"]
    page.socket.send(b"\0\1")
    assert "does not understand" in page.hear()[0]["text"]
    for more in ({"frame": -1}, {"frame": "1"}, {"frame": 1, "path": "/etc"}, {"frame": 10**9}):
        assert "does not understand" in page.refusal("show", **more)
    for box in ([1, 2, 3], [1, 2, 3, 1e300], ["a", 2, 3, 4], None):
        assert "does not understand" in page.refusal("draw", number=1, frame=0, box=box)
    page.say("open_sample", name="carphone")
    page.until("opened")


def test_a_message_that_is_too_long_ends_its_page_alone(server):
    with Page(server) as page, Page(server) as other:
        page.socket.send("x" * 200_000)
        with pytest.raises(ConnectionClosed):
            page.hear()
        other.say("open_sample", name="carphone")
        other.until("opened")


# Many at once


def test_twenty_sessions_at_once_lose_nothing(server, tmp_path):
    """Each has a clip of its own brightness and a box of its own; one more page takes nothing and one goes away."""
    clips = [
        write_clip(tmp_path / f"{number}.mp4", [numbered(number)] * COUNT).read_bytes() for number in range(SESSIONS)
    ]
    pages = [Page(server) for _ in range(SESSIONS)]
    memory = server.memory()
    try:
        assert "20 pages are open already" in Page(server).greeting["text"]

        def track(number):
            page, box = pages[number], [number, 1.0, 30.0, 30.0]
            assert page.upload("clip.mp4", clips[number])[0] == 200
            page.say("open_upload")
            page.until("opened")
            page.say("draw", number=1, frame=0, box=box)
            page.say("track", **STILL)
            before, ended = page.until("ended")
            frames = [(message, picture) for message, picture in before if message["type"] == "frame"]
            assert [message["frame"] for message, _ in frames] == list(range(COUNT))
            assert all(message["objects"][0]["box"] == box for message, _ in frames)
            assert all(abs(brightness(picture) - 4 * number) < 3 for _, picture in frames)
            return ended["why"]

        with ThreadPoolExecutor(SESSIONS) as pool:
            assert list(pool.map(track, range(SESSIONS))) == ["end"] * SESSIONS
        assert len(server.folders()) == SESSIONS
        assert server.memory() - memory < 100
    finally:
        for page in pages:
            page.close()
    assert wait_until(lambda: server.folders() == [])


def test_a_page_that_takes_nothing_neither_fills_memory_nor_holds_up_others(server, tmp_path):
    """It is given a few pictures; what it is owed comes when it takes them."""
    clip = write_clip(tmp_path / "noise.mp4", noise(150, (320, 240)), preset="ultrafast", crf="38")
    with Page(server) as slow, Page(server) as other:
        slow.open_upload(clip)
        slow.say("draw", number=1, frame=0, box=[4, 4, 40, 40])
        before = server.memory()
        slow.say("track", **STILL)
        other.say("open_sample", name="carphone")
        other.until("picture")
        other.say("draw", number=1, frame=0, box=[4, 4, 40, 40])
        other.say("track", **STILL)
        frames, _ = other.until("ended")
        assert sum(message["type"] == "frame" for message, _ in frames) == 120
        assert server.memory() - before < 60
        owed = []
        while len(owed) < WINDOW:
            message, _ = slow.hear()
            if message["type"] == "frame":
                owed.append(message["frame"])
        with pytest.raises(TimeoutError):
            slow.hear(0.3)  # no more until it has taken them
        for _ in owed:
            slow.say("ack")
        rest, _ = slow.until("ended")
        owed += [message["frame"] for message, _ in rest if message["type"] == "frame"]
        assert owed == list(range(150))


def test_a_flood_of_commands_is_taken_as_fast_as_its_answers(server, tmp_path):
    with Page(server) as page, Page(server) as other:
        page.open_upload(write_numbered(tmp_path / "a.mp4", COUNT))
        before = server.memory()
        for index in range(3000):
            page.say("draw", number=1 + index % 6, frame=index % COUNT, box=[4, 4, 20, 20])
            if index % 100 == 99:
                for _ in range(100):
                    assert page.hear()[0]["type"] == "drawn"
        assert server.memory() - before < 30
        other.say("open_sample", name="carphone")
        other.until("opened")


def test_closing_a_page_cancels_its_jobs_and_removes_its_files(server, tmp_path):
    clip = write_clip(tmp_path / "noise.mp4", noise(100, (640, 480)), preset="ultrafast", crf="38")
    with Page(server) as page:
        page.open_upload(clip)
        page.say("draw", number=1, frame=0, box=[4, 4, 40, 40])
        page.say("track", **STILL)
        assert page.until("frame")
        folder = server.folder(page)
        assert (folder / "upload1" / "video").stat().st_size == clip.stat().st_size
        page.socket.socket.close()  # as when the browser is killed
    assert wait_until(lambda: server.folders() == [])
    with Page(server) as other:
        other.say("open_sample", name="carphone")
        other.until("opened")


def test_idle_pages_are_closed(tmp_path):
    server = Server(tmp_path / "server", "--tracker", "still", "--idle_minutes", "0.02", token=None)
    try:
        page = Page(server)
        message, _ = page.hear()
        assert (message["type"], message["text"]) == (
            "closed",
            "closed after 0.02 minutes without use; its files are removed",
        )
        assert wait_until(lambda: server.folders() == [])
    finally:
        server.stop()
