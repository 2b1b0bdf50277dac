"""The server's end of the process that tracks: it is started, spoken to, and started again if it dies."""

import asyncio
import contextlib
import multiprocessing
import queue
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lib.test.web.limits import Limits
from lib.utils.errors import UserError

_SECONDS_TO_END = 5

Deliver = Callable[[str, dict, bytes | None], None]


@dataclass(frozen=True)
class Start:
    """What the process is started with.

    Attributes:
        settings: keywords of `lib.test.web.catalogue.Settings`, which imports networks: not here.
        limits: what is taken.
        folder: files of all sessions; the process removes it when the server is gone, however that ended.
    """

    settings: dict[str, Any]
    limits: Limits
    folder: Path


class TrackerProcess:
    """One process; `start` it, `attach` the loop that takes its messages, `send` it commands.

    Args:
        start: what it is started with.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._process: multiprocessing.Process | None = None
        self._stopping = False

    def start(self) -> dict:
        """Start it; gives what there is to choose (`Catalogue.describe`). It takes some seconds.

        Raises:
            UserError: it cannot serve: an unknown tracker, a missing package, or it died.
        """
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, self._start), name="tracker", daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the connection
        try:
            _, message, _ = ours.recv()
        except EOFError:
            self._process.join(_SECONDS_TO_END)
            raise UserError(f"the process that tracks ended at its start (status {self._process.exitcode})") from None
        if message["type"] == "unusable":
            raise UserError(message["text"])
        self._connection = ours
        self._commands: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_send_all, args=(ours, self._commands), daemon=True).start()
        return message["catalogue"]

    def attach(self, loop: asyncio.AbstractEventLoop, deliver: Deliver, lost: Callable[[], None]) -> threading.Thread:
        """Give all messages to `deliver` in the loop's thread, and call `lost` there if the process dies.

        Returns:
            The thread that waits for them.
        """

        def receive(connection: Connection) -> None:
            try:
                while True:
                    loop.call_soon_threadsafe(deliver, *connection.recv())
            except (EOFError, OSError):
                self._commands.put(None)
                if not self._stopping:
                    loop.call_soon_threadsafe(lost)
            except RuntimeError:
                if not loop.is_closed():  # if it is, the server has ended
                    raise

        thread = threading.Thread(target=receive, args=(self._connection,), daemon=True)
        thread.start()
        return thread

    def send(self, session: str, name: str, /, **arguments: Any) -> None:
        """Send a command of `lib.test.web.desk.Desk`; it does not wait."""
        self._commands.put((session, name, arguments))

    def stop(self) -> None:
        """End it."""
        self._stopping = True
        self._commands.put(None)
        self._process.terminate()
        self._process.join(_SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()


def _send_all(connection: Connection, commands: queue.SimpleQueue) -> None:
    """Send commands as they come, in a thread of its own: the server's loop never waits for the process."""
    with connection, contextlib.suppress(OSError):  # it died, which the other thread notices
        while (command := commands.get()) is not None:
            connection.send(command)


def _run(connection: Connection, start: Start) -> None:
    """The process itself."""
    # Imported here since the server does without networks, whose import takes seconds and much memory.
    from lib.test.web.catalogue import Settings
    from lib.test.web.worker import serve

    serve(connection, Settings(**start.settings), start.limits)
    if multiprocessing.parent_process() is None or not multiprocessing.parent_process().is_alive():
        shutil.rmtree(start.folder, ignore_errors=True)
