"""The page in a real browser: what a person does too early, twice, or in the wrong place."""

import pytest
from playwright.sync_api import expect

from tests.test.web.browsing import (
    BOX,
    COUNT,
    OTHER,
    alert,
    drag,
    expect_box,
    open_square,
    opened,
    opened_to_be_lost,
    place,
    scrub,
    track,
)

AT_ONCE = "(...selectors) => selectors.flat().forEach((each) => document.querySelector(each).click())"


def at_once(page, *selectors):
    """Click on one after the other without waiting for an answer."""
    page.evaluate(AT_ONCE, selectors)


@pytest.fixture
def bare(browser):
    """A page whose mistakes are not errors."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


# Keys


def test_keys_work_wherever_the_focus_is(page):
    open_square(page)
    drag(page, BOX)
    track(page)  # a click, which leaves the focus on the button
    page.keyboard.press(",")
    expect(page.locator("#facts")).to_contain_text(f"frame {COUNT - 1} of")
    page.get_by_role("button", name="Add an object").click()
    page.get_by_role("radio", name="Object 2").focus()
    page.keyboard.press("1")
    expect(page.get_by_role("radio", name="Object 1")).to_be_checked()
    # A field keeps what is typed into it.
    page.locator("#box-x").fill("")
    page.locator("#box-x").press_sequentially("2.1")
    expect(page.locator("#box-x")).to_have_value("2.1")
    expect(page.get_by_role("radio", name="Object 1")).to_be_checked()


def test_a_box_that_is_moved_by_keys_stays_its_objects(page):
    open_square(page)
    drag(page, BOX)
    page.get_by_role("button", name="Add an object").click()
    drag(page, OTHER)
    expect_box(page, OTHER)
    page.locator("#stage").focus()
    for key in ("1", "ArrowRight", "2"):  # faster than the box is sent
        page.keyboard.press(key)
    expect(page.get_by_role("radio", name="Object 2")).to_be_checked()
    expect_box(page, OTHER)
    page.get_by_role("radio", name="Object 1").check()
    expect_box(page, (BOX[0] + 1, *BOX[1:]), within=0.5)


# Boxes


@pytest.mark.parametrize("box", [(99999999, 10, 20, 20), (10, 400, 20, 20), (-50, 10, 40, 40), (-1e12, 0, 1e6, 20)])
def test_a_box_outside_the_frame_is_refused_plainly(page, box):
    open_square(page)
    for side, value in zip("xywh", box, strict=True):
        page.locator(f"#box-{side}").fill(f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}")
    page.get_by_role("button", name="Set the box").click()
    assert alert(page) == "The box lies outside the frame, which is 160x120."


def test_of_a_box_that_is_too_large_the_visible_part_is_taken(page):
    open_square(page)
    for side, value in zip("xywh", ("-20", "10", "1e12", "50"), strict=True):
        page.locator(f"#box-{side}").fill(value)
    page.get_by_role("button", name="Set the box").click()
    expect(page.locator("#facts")).to_contain_text("drawn")
    page.get_by_role("button", name="Track", exact=True).focus()
    expect_box(page, (0, 10, 160, 50))


def test_a_second_finger_does_not_disturb_the_first(browser, server):
    with opened(browser, server, has_touch=True, viewport={"width": 390, "height": 800}) as page:
        open_square(page)
        page.locator("#stage").scroll_into_view_if_needed()
        first, second, end = place(page, 20, 40), place(page, 120, 100), place(page, 44, 64)
        touch = page.context.new_cdp_session(page)
        for kind, points in (
            ("touchStart", [first]),
            ("touchStart", [first, second]),
            ("touchMove", [end, second]),
            ("touchEnd", [end]),
            ("touchEnd", []),
        ):
            places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})
        expect_box(page, BOX)


def test_a_small_clip_is_shown_large_enough_to_draw_in(page):
    open_square(page)  # 160x120
    assert page.locator("#stage").bounding_box()["width"] > 400


# Downloads, clips, trackers


def test_a_second_download_does_not_take_away_the_first(page):
    open_square(page)
    drag(page, BOX)
    track(page)
    with page.expect_download() as caught:
        at_once(page, ".download[data-what=video]", ".download[data-what=table]")
    assert caught.value.suggested_filename == "square_tracked.mp4"
    expect(page.locator("#export-bar")).to_be_hidden()
    with page.expect_download() as caught:
        page.get_by_role("button", name="Boxes (CSV)").click()
    assert caught.value.suggested_filename == "square_boxes.csv"


def test_another_clip_ends_what_was_under_way(page, media):
    (media / "letter.mp4").write_text("not a video")
    page.get_by_role("button", name="bigbuckbunny").click()
    expect(page.locator("#facts")).to_contain_text("drawn")
    track(page)
    page.get_by_role("button", name="Choose another clip").click()
    page.locator("#media").get_by_role("button", name="media").click()
    page.locator("#media").get_by_role("button", name="letter.mp4").wait_for()
    page.evaluate("document.querySelectorAll('#media button').forEach((each) => each.id = each.textContent[0])")
    # A download and a file that is no clip, …
    at_once(page, ".download[data-what=video]", "#l")
    assert alert(page).startswith("letter.mp4 is not a video")
    expect(page.locator("#export-bar")).to_be_hidden()
    expect(page.locator(".download").first).to_be_enabled()
    # … and a clip.
    at_once(page, ".download[data-what=video]", "#s")
    expect(page.locator("#clip-name")).to_have_text("square.mp4")
    expect(page.locator("#export-bar")).to_be_hidden()


def test_what_another_tracker_has_yet_to_find_is_not_shown(page):
    page.get_by_role("button", name="carphone").click()
    expect(page.locator("#facts")).to_contain_text("drawn")
    track(page)
    page.locator("#tracker").select_option("csrt")
    page.get_by_role("button", name="Track", exact=True).click()
    expect(page.locator("#facts")).not_to_contain_text("confidence")  # CSRT does not say how sure it is
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#status")).to_have_text("Paused.")
    scrub(page, 120)
    expect(page.locator("#box-x")).to_have_value("")
    expect(page.locator(".object")).to_contain_text("no box here")


# The server is gone


def test_what_is_done_after_the_connection_is_lost_has_an_answer(browser, server):
    with opened_to_be_lost(browser, server) as (page, lose):
        open_square(page)
        drag(page, BOX)
        expect_box(page, BOX)
        lose()
        lost = "The connection to the server is lost: is it still running? Reload the page."
        assert alert(page) == lost
        page.get_by_role("button", name="Dismiss this message").click()
        page.get_by_role("button", name="Track", exact=True).click()
        assert alert(page) == lost
        expect(page.get_by_role("button", name="Track", exact=True)).to_be_visible()  # not "Pause"


def test_a_server_that_cannot_be_reached_is_said(bare, server):
    bare.route_web_socket("**/api/session", lambda socket: socket.close())
    bare.goto(f"{server.base}/?token={server.token}")
    assert alert(bare).startswith("The connection to the server is lost")


def test_a_link_on_another_page_leads_in(bare, server):
    """As in a mail that is read in the browser: the cookie that takes the token's place is sent there, too."""
    link = f"<a href='{server.base}/?token={server.token}'>track</a>"
    bare.route("http://mail.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    bare.goto("http://mail.example/")
    bare.get_by_role("link").click()
    expect(bare.get_by_role("heading", name="Choose a clip")).to_be_visible()
