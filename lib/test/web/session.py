"""One open page: its files, its messages in both directions, and the thread that decodes and tracks for it."""

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import queue
import secrets
import shutil
import threading
import time
from pathlib import Path

from lib.data.images import IMAGE_SUFFIXES
from lib.test.web.catalogue import Trackers
from lib.test.web.clips import Limits
from lib.test.web.desk import Desk
from lib.utils.errors import UserError

_COMMANDS = 16  # commands that may wait for the page's thread
_OUTBOX = 32  # messages that may wait for the page

log = logging.getLogger(__name__)


class Session:
    """A page, from its WebSocket's begin to its end. Create it in the event loop.

    Attributes:
        name: a secret of the server and the page; it names the session in addresses.
        folder: its files; removed at the end.
        clip_name: name of the open clip.
        uploading: an upload is arriving.
        upload: the last upload, or None.
        closing: set when the page has to be closed, for `reason`.
    """

    def __init__(self, folder: Path, limits: Limits, trackers: Trackers) -> None:
        self.name = secrets.token_urlsafe(16)
        self.folder = folder / self.name
        self.folder.mkdir()
        self.clip_name = "clip"
        self.uploading = False
        self.upload: Upload | None = None
        self.closing, self.reason = asyncio.Event(), ""
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[tuple[dict, bytes | None]] = asyncio.Queue(_OUTBOX)
        self._commands: queue.Queue[tuple[str, dict]] = queue.Queue(_COMMANDS)
        self._ended = threading.Event()
        self._numbers = itertools.count(1)
        self._open_upload = ""
        self._heard = time.monotonic()
        desk = Desk(self.folder, limits, trackers, self._send, time.perf_counter)
        self._thread = threading.Thread(target=self._work, args=(desk,), name="tracker", daemon=True)
        self._thread.start()

    def hear(self) -> None:
        """The page did something."""
        self._heard = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """Seconds since the page's last action."""
        return time.monotonic() - self._heard

    def close(self, reason: str) -> None:
        """Have the page closed."""
        self.reason = self.reason or reason
        self.closing.set()

    def end(self) -> None:
        """The page is gone: its thread ends after the current step and removes the files."""
        self._ended.set()
        with contextlib.suppress(queue.Full):
            self._commands.put_nowait(("pause", {}))  # wakes the thread

    async def command(self, name: str, arguments: dict) -> None:
        """Give the page's thread a command of `Desk`; waits while too many wait already."""
        while True:
            try:
                return self._commands.put_nowait((name, arguments))
            except queue.Full:
                await asyncio.sleep(0.01)

    async def put(self, message: dict, picture: bytes | None = None) -> None:
        """Send the page a message; waits while too many wait already."""
        if message["type"] == "opened":
            self.clip_name, self._open_upload = message["name"], message.pop("ticket")
            await asyncio.to_thread(self.remove_stale)
        await self._outbox.put((message, picture))

    async def take(self) -> tuple[dict, bytes | None]:
        """The next message to send, and its picture."""
        return await self._outbox.get()

    def begin_upload(self) -> "Upload":
        """Another upload in place of the last one."""
        self.upload = Upload(self.folder / f"upload{next(self._numbers)}")
        return self.upload

    def remove_stale(self) -> None:
        """Remove all uploads but the last one and the open clip."""
        used = {self._open_upload, self.upload.folder.name if self.upload else ""}
        for folder in self.folder.glob("upload*"):
            if folder.name not in used:
                shutil.rmtree(folder, ignore_errors=True)

    def _work(self, desk: Desk) -> None:
        """The page's thread."""
        try:
            desk.run(self._commands, self._ended)
        except BaseException:
            if self._ended.is_set() or self._loop.is_closed():
                return  # the page is gone, and so is the receiver of messages
            log.exception("the thread of a page stopped")
            reason = "tracking stopped because of an error; the server's log has the details"
            self._loop.call_soon_threadsafe(self.close, reason)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _send(self, message: dict, picture: bytes | None) -> None:
        """Called in the page's thread; waits for the page like `put`."""
        if message["type"] == "progress":
            self.hear()  # a page that waits for a long download is in use
        sent = asyncio.run_coroutine_threadsafe(self.put(message, picture), self._loop)
        while not self._ended.is_set():
            try:
                return sent.result(timeout=0.5)
            except concurrent.futures.TimeoutError:
                continue
        sent.cancel()
        raise concurrent.futures.CancelledError


class Upload:
    """One video, or the pictures of a sequence one after the other.

    Attributes:
        folder: its files.
        name: its name for people.
        size: bytes so far.
        pictures: number of pictures, 0 of a video.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self.size, self.pictures = folder, "", 0, 0
        folder.mkdir()

    @property
    def path(self) -> Path:
        """The file or folder to open."""
        return self.folder if self.pictures else self.folder / "video"

    def next_file(self, name: str, limits: Limits) -> Path:
        """Path of the next file; from the page's name only the kind of picture is taken.

        Raises:
            UserError: a picture beside a video, or too many pictures.
        """
        self.name = self.name or Path(name.replace("\\", "/")).name
        suffix = Path(name).suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            if self.size:
                raise UserError("upload one video, or the pictures of one sequence")
            return self.folder / "video"
        self.pictures += 1
        if self.pictures > limits.frames:
            raise UserError(f"at most {limits.frames:,} pictures are taken here")
        return self.folder / f"{self.pictures:08d}{suffix}"
