"""A page whose thread fails is closed with a reason, and its files are removed."""

import asyncio

import pytest

from lib.test.web.clips import Limits
from lib.test.web.desk import Desk
from lib.test.web.session import Session
from tests.test.web.serving import wait_until


@pytest.mark.parametrize("error", [AssertionError, AttributeError, MemoryError, ZeroDivisionError])
def test_a_page_whose_thread_fails_is_closed_with_a_reason(tmp_path, monkeypatch, error):
    def fail(_desk):
        raise error

    async def fail_once():
        session = Session(tmp_path, Limits(), None)
        await session.command("pause", {})
        await asyncio.wait_for(session.closing.wait(), 20)
        return session

    monkeypatch.setattr(Desk, "pause", fail)
    session = asyncio.run(fail_once())
    assert session.reason == "tracking stopped because of an error; the server's log has the details"
    assert wait_until(lambda: not session.folder.exists())
