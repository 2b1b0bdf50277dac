"""A server as a process of its own, and pages that talk to it without a browser."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import psutil
from websockets.sync.client import connect

from lib.utils.workspace import REPOSITORY
from tests.processes import wait_until

TOKEN = "a-token-for-tests"
_SECONDS = 300


class Server:
    """`tracking/web_demo.py` at `base`, `http://127.0.0.1:<port>`, its files under `folder`."""

    token = TOKEN

    def __init__(self, folder: Path, *options: str) -> None:
        self.files, self.log = folder / "tmp", folder / "log.txt"
        self.files.mkdir(parents=True)
        command = [sys.executable, "tracking/web_demo.py", "--port", "0", "--token", TOKEN, *options]
        variables = os.environ | {"TMPDIR": str(self.files), "STARK_SAVE_DIR": str(folder / "save")}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, cwd=REPOSITORY, env=variables, stdout=log, stderr=log)
        ready = r"open (http://[^/]+)/"
        wait_until(lambda: re.search(ready, self.log.read_text()) or self.process.poll() is not None, _SECONDS)
        if not (found := re.search(ready, self.log.read_text())):
            self.stop(signal.SIGKILL)
            raise AssertionError(f"the server did not start:\n{self.log.read_text()}")
        self.base = found.group(1)
        self.cookie = {"Cookie": f"stark_token_{self.base.rpartition(':')[2]}={TOKEN}"}

    def memory(self) -> int:
        """MiB that the server holds now."""
        return psutil.Process(self.process.pid).memory_info().rss // 2**20

    def folder(self, page: "Page") -> Path:
        """The files of an open page."""
        (found,) = self.files.glob(f"stark-web-*/{page.name}")
        return found

    def get(self, path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body; with `data` it is a POST."""
        given = {name.replace("_", "-"): value for name, value in (self.cookie | headers).items()}
        try:
            response = urllib.request.urlopen(urllib.request.Request(self.base + path, data, given), timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            self.headers = response.headers
            return response.status, response.read()

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it, and wait for that."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(60)


class Page:
    """One session, named `name`; `greeting` is the server's first message."""

    def __init__(self, server: Server, **headers: str) -> None:
        self.server = server
        address, options = server.base.replace("http", "ws") + "/api/session", {"max_size": None, "max_queue": 4}
        headers = server.cookie | headers
        self._connection = connect(address, additional_headers=headers, open_timeout=_SECONDS, **options)
        self.socket = self._connection.__enter__()
        self.greeting, _ = self.hear()
        self.name = self.greeting["session"]

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.__exit__(*error)

    def say(self, kind: str, **more: object) -> None:
        """Send a message."""
        self.socket.send(json.dumps({"type": kind} | more))

    def hear(self) -> tuple[dict, bytes]:
        """The next message, and its picture."""
        data = self.socket.recv(_SECONDS)
        (length,) = struct.unpack("<I", data[:4])
        return json.loads(data[4 : 4 + length]), data[4 + length :]

    def until(self, kind: str) -> tuple[list[tuple[dict, bytes]], dict]:
        """Everything up to a message of a kind; and that message."""
        before = []
        while True:
            message, picture = self.hear()
            if message["type"] == kind:
                return before, message
            assert message["type"] != "error", message
            before.append((message, picture))

    def refusal(self, kind: str, **more: object) -> str:
        """What the server says against a message."""
        self.say(kind, **more)
        while True:
            message, _ = self.hear()
            if message["type"] == "error":
                return message["text"]

    def upload(self, name: str, data: bytes, more: bool = False, **headers: str) -> tuple[int, dict | None]:
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
