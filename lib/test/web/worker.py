"""The process that decodes and tracks, for all sessions: commands come in, messages and pictures go out."""

import logging
import signal
import threading
import time
from collections import deque
from multiprocessing.connection import Connection
from pathlib import Path

from lib.test.web.catalogue import Catalogue, Choice, Settings, Trackers
from lib.test.web.desk import Desk
from lib.test.web.jobs import Places, Turns, unexpected
from lib.test.web.limits import Limits
from lib.utils.errors import UserError

_IDLE_SECONDS = 60.0
_WRITERS = 2  # sessions that encode at the same time

log = logging.getLogger(__name__)


class Worker:
    """Serves commands (session, name, arguments) until the connection ends, jobs in between.

    Args:
        connection: to the server.
        catalogue: what may be tracked with.
        limits: what is taken.
    """

    def __init__(self, connection: Connection, catalogue: Catalogue, limits: Limits) -> None:
        self._connection, self._limits = connection, limits
        self._wake = threading.Condition()
        self._commands: deque[tuple[str, str, dict]] = deque()
        self._ended = self._noticed = False
        self._desks: dict[str, Desk] = {}
        self._turns, self._writers = Turns(), Places(_WRITERS)
        self.trackers = Trackers(catalogue, self._notify)

    def run(self) -> None:
        """Serve until the server closes the connection or is gone."""
        threading.Thread(target=self._receive, daemon=True).start()
        try:
            while not self._ended:
                while self._commands:
                    self._obey(*self._commands.popleft())
                if not self._turns.step():
                    with self._wake:
                        # A job may have become ready since it was asked: whoever makes it so notifies afterwards.
                        self._wake.wait_for(lambda: self._commands or self._ended or self._noticed, _IDLE_SECONDS)
                        self._noticed = False
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server is gone
        finally:
            for desk in self._desks.values():
                desk.close()
            self.trackers.close()

    def _receive(self) -> None:
        """In a thread of its own, so that the server's sending never waits for a step."""
        try:
            while True:
                command = self._connection.recv()
                with self._wake:
                    self._commands.append(command)
                    self._wake.notify()
        except (EOFError, OSError):
            with self._wake:
                self._ended = True
                self._wake.notify()

    def _notify(self) -> None:
        with self._wake:
            self._noticed = True
            self._wake.notify()

    def _obey(self, session: str, name: str, arguments: dict) -> None:
        if name == "begin":
            self._desks[session] = self._desk(session, arguments["folder"])
            return
        desk = self._desks.get(session)
        if desk is None:
            return
        if name == "end":
            desk.close()
            del self._desks[session]
            self._connection.send((session, {"type": "gone"}, None))
            return
        try:
            getattr(desk, name)(**arguments)
        except UserError as error:
            desk.send({"type": "error", "about": name, "text": str(error)}, None)
        except Exception as error:
            # As with jobs: one page's trouble must not end the others' work.
            log.exception("the command %s failed", name)
            desk.send({"type": "error", "about": name, "text": unexpected(error)}, None)
        self._connection.send((session, {"type": "done"}, None))

    def _desk(self, session: str, folder: Path) -> Desk:
        def send(message: dict, picture: bytes | None) -> None:
            self._connection.send((session, message, picture))

        return Desk(session, folder, self._limits, self.trackers, self._turns, self._writers, send, time.perf_counter)


def serve(connection: Connection, settings: Settings, limits: Limits) -> None:
    """Run the process: first tell the server what there is to choose, or what is wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal; the server ends this one
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        catalogue = Catalogue(settings)
        description = catalogue.describe()
    except UserError as error:
        connection.send(("", {"type": "unusable", "text": str(error)}, None))
        return
    worker = Worker(connection, catalogue, limits)
    worker.trackers.get(Choice(description["trackers"][0]["key"], settings.engine))  # the likely one, ahead of time
    connection.send(("", {"type": "ready", "catalogue": description}, None))
    worker.run()
