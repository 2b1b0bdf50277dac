"""Between pages and the process that tracks, without either."""

import asyncio
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from lib.test.web.limits import Limits
from lib.test.web.media import Media
from lib.test.web.process import Start, TrackerProcess
from lib.test.web.service import Service


@pytest.fixture
def clock(monkeypatch):
    """Sessions' time, as its one entry."""
    now = [0.0]
    monkeypatch.setattr("lib.test.web.sessions.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


class Process:
    """Takes commands, and gives what it is told to."""

    def attach(self, _, deliver, lost):
        self.deliver, self.lost = deliver, lost

    def send(self, *_, **__):
        pass


def test_a_page_for_which_a_file_is_written_is_not_idle(tmp_path, clock):
    process = Process()
    service = Service(process, {}, Media([]), Limits(), tmp_path)
    service.attach(None)
    session = service.begin()
    clock[0] = 1000.0
    process.deliver(session.name, {"type": "length", "frames": 9}, None)
    assert session.idle_seconds == 1000
    process.deliver(session.name, {"type": "progress", "what": "video", "share": 0.5}, None)
    assert session.idle_seconds == 0


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_comes_after_the_server_has_ended_is_let_go(tmp_path):
    """The process that tracks ends a step that it had begun; nobody is there to hear of it."""
    loop = asyncio.new_event_loop()
    loop.close()
    process = TrackerProcess(Start({}, Limits(), tmp_path))
    process._connection, theirs = Pipe()
    thread = process.attach(loop, None, None)
    theirs.send(("session", {"type": "gone"}, None))
    thread.join(20)
    assert not thread.is_alive()
