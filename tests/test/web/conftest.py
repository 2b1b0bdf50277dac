"""A browser, and a server to look at with it."""

import shutil

import pytest
from playwright.sync_api import Error, expect, sync_playwright

from tests.processes import wait_until
from tests.test.web.browsing import COUNT, WAIT, opened
from tests.test.web.made_clips import scene, write_clip, write_images
from tests.test.web.serving import Server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium; no browser is downloaded."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("the page is not tested: no Chromium here (apt-get install chromium)")
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(SWITCHES))
        except Error as error:
            pytest.skip(f"the page is not tested: {path} does not start: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "square.mp4", map(scene, range(COUNT)), g="10")
    write_clip(folder / "tall.mp4", (scene(index, (90, 160)) for index in range(3)))
    write_images(folder / "frames", 5)
    (folder / "frames/groundtruth.txt").write_text("4,4,20,20\n" * 5)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, media):
    limits = ("--media", str(media), "--max_upload", "1")
    server = Server(tmp_path_factory.mktemp("server"), *limits)
    yield server
    server.stop()
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(autouse=True)
def _nothing_kept(request):
    """No work of the test before: its page has gone, and so do the files beside the clips."""
    if "server" in request.fixturenames:
        server = request.getfixturevalue("server")
        assert wait_until(lambda: not any(each.is_dir() for each in server.files.glob("stark-web-*/*")))
    if "media" in request.fixturenames:
        for kept in request.getfixturevalue("media").rglob("*tracks.json"):
            kept.unlink()


@pytest.fixture
def page(browser, server):
    with opened(browser, server) as page:
        yield page
