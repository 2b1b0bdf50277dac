"""A server as a process of its own, and pages that talk to it without a browser."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from email.message import Message
from pathlib import Path

from websockets.sync.client import connect

from lib.utils.workspace import REPOSITORY

TOKEN = "a-token-for-tests"
_SECONDS = 300


class Server:
    """`tracking/web_demo.py` with options, its files under `folder`.

    Attributes:
        base: `http://127.0.0.1:<port>`.
        files: folder of all files that it keeps.
        log: what it printed.
    """

    def __init__(self, folder: Path, *options: str, token: str | None = TOKEN) -> None:
        self.files, self.log, self.token = folder / "tmp", folder / "log.txt", token
        self.files.mkdir(parents=True)
        secret = ["--token", token] if token else []
        command = [sys.executable, "tracking/web_demo.py", "--port", "0", *secret, *options]
        variables = os.environ | {"TMPDIR": str(self.files), "STARK_SAVE_DIR": str(folder / "save")}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, cwd=REPOSITORY, env=variables, stdout=log, stderr=log)
        self.base = self._address()

    def _address(self) -> str:
        for _ in range(20 * _SECONDS):
            found = re.search(r"open (http://[^/]+)/", self.log.read_text())
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop(signal.SIGKILL)
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def cookie(self) -> dict[str, str]:
        """The header that lets in."""
        return {"Cookie": f"stark_token_{self.base.rpartition(':')[2]}={self.token}"} if self.token else {}

    def memory(self) -> int:
        """MiB that the server holds now."""
        return _resident(self.process.pid) // 2**20

    def folder(self, page: "Page") -> Path:
        """The files of an open page."""
        (found,) = self.files.glob(f"stark-web-*/{page.name}")
        return found

    def get(self, path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body; with `data` it is a POST."""
        given = self.cookie() | headers
        request = urllib.request.Request(self.base + path, data, {k.replace("_", "-"): v for k, v in given.items()})
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def headers(self, path: str) -> Message:
        """Those of an answer."""
        try:
            return urllib.request.urlopen(urllib.request.Request(self.base + path, headers=self.cookie())).headers
        except urllib.error.HTTPError as error:
            return error.headers

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it, and wait for that."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(20)


class Page:
    """One session; `greeting` is what the server said first."""

    def __init__(self, server: Server, **headers: str) -> None:
        self.server = server
        given = server.cookie() | headers
        address = server.base.replace("http", "ws") + "/api/session"
        connection = connect(address, additional_headers=given, max_size=None, open_timeout=_SECONDS, max_queue=4)
        self._open = ExitStack()
        self.socket = self._open.enter_context(connection)
        self.greeting, _ = self.hear()

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._open.close()

    @property
    def name(self) -> str:
        """The session's."""
        return self.greeting["session"]

    def say(self, kind: str, **more: object) -> None:
        """Send a message."""
        self.socket.send(json.dumps({"type": kind} | more))

    def hear(self, seconds: float = _SECONDS) -> tuple[dict, bytes | None]:
        """The next message, and its picture."""
        data = self.socket.recv(seconds)
        (length,) = struct.unpack("<I", data[:4])
        return json.loads(data[4 : 4 + length]), data[4 + length :] or None

    def until(self, kind: str) -> tuple[list[tuple[dict, bytes | None]], dict]:
        """Everything up to a message of a kind, pictures being taken as they come; and that message."""
        before = []
        while True:
            message, picture = self.hear()
            if message["type"] == kind:
                return before, message
            assert message["type"] != "error", message
            before.append((message, picture))

    def upload(self, name: str, data: bytes, more: bool = False, **headers: str) -> tuple[int, dict]:
        """Status and answer."""
        query = urllib.parse.urlencode({"name": name, "more": str(more).lower()})
        status, body = self.server.get(f"/api/{self.name}/upload?{query}", data, **headers)
        return status, json.loads(body)

    def open_upload(self, path: Path, name: str = "clip.mp4") -> dict:
        """Upload a video and open it."""
        assert self.upload(name, path.read_bytes())[0] == 200
        self.say("open_upload")
        _, opened = self.until("opened")
        self.until("picture")
        return opened

    def refusal(self, kind: str, **more: object) -> str:
        """What the server says against a message."""
        self.say(kind, **more)
        while True:
            message, _ = self.hear()
            if message["type"] == "error":
                return message["text"]


def wait_until(true, seconds: float = 60) -> bool:
    """Whether something becomes true in time; each look may take long, too."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.02)
    return False


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
