"""Nothing is lost: reload, closed tab, restarted server, undo; and what else a person does to correct tracks."""

import json

from playwright.sync_api import expect

from tests.processes import wait_until
from tests.test.web.browsing import (
    BOX,
    COUNT,
    TRACKED,
    alert,
    drag,
    expect_box,
    open_square,
    opened,
    place,
    scrub,
    track,
)
from tests.test.web.made_clips import scene, write_clip
from tests.test.web.serving import Server

LAST = (20 + 2 * (COUNT - 1), 40, 24, 24)


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def kept(media):
    """The work beside the clip, as it is once the server has written it."""
    file = media / "square.mp4.tracks.json"
    return json.loads(file.read_text())["objects"] if file.exists() else []


def test_reload_closed_tab_and_restarted_server_bring_the_work_back(browser, media, tmp_path):
    server = Server(tmp_path, "--media", str(media))
    try:
        with opened(browser, server, forgive="ERR_CONNECTION_REFUSED") as page:
            open_square(page)
            drag(page, BOX)
            page.locator("#name").fill("square")
            page.keyboard.press("Tab")
            expect(page.get_by_role("radio", name="square")).to_be_checked()
            track(page)
            assert wait_until(lambda: [len(each["boxes"]) for each in kept(media)] == [COUNT])
            page.reload()
            expect(page.locator("#facts")).to_contain_text("frame 1 of")
            expect_box(page, BOX)
            scrub(page, COUNT)
            expect_box(page, LAST, within=8)
            # The server ends, and another one begins at the same address: the page goes on by itself.
            server.stop()
            assert "connection to the server is lost" in alert(page)
            expect(page.locator("#track")).to_be_disabled()
            server = Server(tmp_path / "again", "--media", str(media), "--port", server.base.rpartition(":")[2])
            expect(page.locator("#track")).to_be_enabled()
            expect_box(page, LAST, within=8)
            # Also where nothing lies beside the clip: a new tab offers what the browser keeps.
            with page.context.expect_page():
                page.evaluate("window.open('about:blank')")
            page.context.pages[-1].close()
            page.close()
            (media / "square.mp4.tracks.json").unlink()
            page = page.context.new_page()
            page.goto(server.base)
            press(page, "Go on with square.mp4")
            expect(page.get_by_role("radio", name="square")).to_be_checked()
            expect_box(page, BOX)
            assert wait_until(lambda: [len(each["boxes"]) for each in kept(media)] == [COUNT])
    finally:
        server.stop()


def test_work_on_an_upload_comes_back_with_the_file(page, tmp_path):
    path = write_clip(tmp_path / "mine.mp4", map(scene, range(COUNT)), g="10")
    page.locator("#file").set_input_files(path)
    expect(page.locator("#clip-name")).to_have_text("mine.mp4")
    drag(page, BOX)
    expect_box(page, BOX)
    page.reload()
    expect(page.locator("#last-hint")).to_contain_text("1 boxes on mine.mp4 are kept in this browser. Choose the file")
    page.locator("#file").set_input_files(path)
    expect_box(page, BOX)


def test_every_action_can_be_undone_and_done_again(page):
    open_square(page)
    expect(page.locator("#undo")).to_be_disabled()
    drag(page, BOX)
    expect_box(page, BOX)
    track(page)
    expect_box(page, LAST, within=8)
    page.keyboard.press("Control+z")  # tracking
    expect(page.locator("#box-x")).to_have_value("")
    page.keyboard.press("Control+Shift+Z")
    expect_box(page, LAST, within=8)
    press(page, "Absent here")
    expect(page.locator(".object")).to_contain_text("absent")
    press(page, "Add an object")
    expect(page.get_by_role("radio")).to_have_count(2)
    for _ in range(2):
        page.keyboard.press("Control+z")
    expect(page.get_by_role("radio")).to_have_count(1)
    expect_box(page, LAST, within=8)
    # Many tracked frames are not removed without a question.
    press(page, "Remove it")
    press(page, "Keep")
    expect_box(page, LAST, within=8)
    press(page, "Remove it")
    expect(page.get_by_role("dialog")).to_contain_text(f"Remove object 1 with its {COUNT - 1} tracked frames?")
    press(page, "Remove")
    expect(page.locator("#box-x")).to_have_value("")
    press(page, "Undo")
    expect_box(page, LAST, within=8)


def test_a_drag_of_a_few_pixels_while_tracking_is_a_click(page):
    page.get_by_role("button", name="bigbuckbunny").click()
    expect(page.locator("#facts")).to_contain_text("drawn")
    page.get_by_role("button", name="Track", exact=True).click()
    expect(page.locator("#facts")).to_contain_text("FPS")
    x, y = place(page, 60, 60)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 3, y + 2)
    page.mouse.up()
    expect(page.locator("#status")).to_have_text(TRACKED)
    expect(page.locator("#facts")).to_contain_text("frame 132 of 132")
