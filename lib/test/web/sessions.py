"""Open pages: what each has waiting to be sent, its files, and when it was last heard of."""

import asyncio
import itertools
import secrets
import time
from pathlib import Path

from lib.data.images import IMAGE_SUFFIXES
from lib.test.web.limits import WINDOW, Limits
from lib.utils.errors import UserError

# A page may have so many commands on their way; with as many answers, and the pictures, that is all that can wait.
COMMANDS = 16
_OUTBOX = 2 * (WINDOW + 2 * COMMANDS + 32)
_ROOM = 16  # with more than this waiting, a page is not listened to


class Session:
    """One open page.

    Attributes:
        name: a secret between the server and the page; it names the session in addresses.
        folder: its files.
        commands: places for commands that are on their way.
        clip_name: what the open clip is called.
        uploading: whether an upload is arriving.
        upload: the last one, None before.
        closing: set where the page has to be closed, for `reason`.
    """

    def __init__(self, folder: Path) -> None:
        self.name = secrets.token_urlsafe(16)
        self.folder = folder / self.name
        self.folder.mkdir()
        self.commands = asyncio.Semaphore(COMMANDS)
        self.clip_name = "clip"
        self.uploading = False
        self.upload: Upload | None = None
        self.closing, self.reason = asyncio.Event(), ""
        self._outbox: asyncio.Queue[tuple[dict, bytes | None]] = asyncio.Queue(_OUTBOX)
        self._room = asyncio.Event()
        self._room.set()
        self._numbers = itertools.count(1)
        self._open_upload = ""
        self._heard = time.monotonic()

    def hear(self) -> None:
        """The page did something."""
        self._heard = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """Since the page last did something."""
        return time.monotonic() - self._heard

    def close(self, reason: str) -> None:
        """Have the page closed."""
        self.reason = self.reason or reason
        self.closing.set()

    def put(self, message: dict, picture: bytes | None = None) -> None:
        """Have something sent; a page that takes nothing while more and more waits is given up."""
        try:
            self._outbox.put_nowait((message, picture))
        except asyncio.QueueFull:
            self.close("the connection is too slow")
        if self._outbox.qsize() > _ROOM:
            self._room.clear()

    async def take(self) -> tuple[dict, bytes | None]:
        """The next thing to send."""
        taken = await self._outbox.get()
        if self._outbox.qsize() <= _ROOM:
            self._room.set()
        return taken

    async def room(self) -> None:
        """Wait until little enough waits to be sent, and few enough commands are on their way."""
        await self._room.wait()
        await self.commands.acquire()

    def begin_upload(self) -> "Upload":
        """Another upload; see `stale` for those before."""
        self.upload = Upload(self.folder / f"upload{next(self._numbers)}")
        return self.upload

    def opened(self, message: dict) -> None:
        """Note what the page is told of the clip that is open now."""
        self.clip_name = message["name"]
        self._open_upload = message.pop("ticket")

    def stale(self) -> list[Path]:
        """Folders of uploads to be removed: all but the last one, and the one that is the open clip."""
        kept = {self._open_upload, self.upload.folder.name if self.upload else ""}
        return [folder for folder in self.folder.glob("upload*") if folder.name not in kept]


class Upload:
    """What a page uploads: one video, or the pictures of a sequence one after the other.

    Attributes:
        folder: where it lies.
        name: what it is called.
        size: bytes so far.
        pictures: number of pictures, 0 of a video.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self.size, self.pictures = folder, "", 0, 0
        folder.mkdir()

    @property
    def path(self) -> Path:
        """What to open."""
        return self.folder if self.pictures else self.folder / "video"

    def next_file(self, name: str, limits: Limits) -> Path:
        """Where the next file goes; of the page's name only the kind of picture is taken.

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


class Sessions:
    """All open pages.

    Args:
        folder: for their files.
        limits: how many there may be.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._open: dict[str, Session] = {}
        self._ending: dict[str, Path] = {}

    def begin(self) -> Session:
        """Another one.

        Raises:
            UserError: there are as many as may be.
        """
        if len(self._open) >= self._limits.sessions:
            raise UserError(
                f"{self._limits.sessions} pages are open already, which is all that this server takes: "
                "close one, or try again later"
            )
        session = Session(self._folder)
        self._open[session.name] = session
        return session

    def get(self, name: str) -> Session | None:
        """A session by its name."""
        return self._open.get(name)

    def all(self) -> list[Session]:
        """Every open one."""
        return list(self._open.values())

    def end(self, session: Session) -> None:
        """Forget one; its files go when `gone` says that nobody reads them."""
        del self._open[session.name]
        self._ending[session.name] = session.folder

    def gone(self, name: str) -> Path | None:
        """The folder of a session that has ended, to be removed now."""
        return self._ending.pop(name, None)

    def all_gone(self) -> list[Path]:
        """The same of all that have ended."""
        return [self._ending.pop(name) for name in list(self._ending)]
