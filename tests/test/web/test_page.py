"""The page in a real browser: what a person does, sees, hears and takes home."""

import re

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

from tests.processes import wait_until
from tests.test.web.browsing import (
    BOX,
    COUNT,
    OTHER,
    TRACKED,
    alert,
    brightness,
    contrast,
    drag,
    expect_box,
    open_square,
    opened,
    place,
    scrub,
    shown_box,
    touch,
    track,
)
from tests.test.web.made_clips import scene, write_clip, write_images


def test_a_sample_is_tracked_in_two_clicks_then_by_another_tracker_with_a_second_object(page):
    page.get_by_role("button", name="carphone").click()
    expect(page.locator("#facts")).to_have_text("frame 1 of 120, drawn")
    expect_box(page, (58, 12, 57, 87))
    track(page)
    for fact in ("frame 120 of 120", "confidence 0.", "FPS"):
        expect(page.locator("#facts")).to_contain_text(fact)
    assert np.abs(np.subtract(shown_box(page), (58, 12, 57, 87))).max() < 50
    # The timeline has a line of the object's colour.
    colours = page.locator("#timeline").evaluate(
        "canvas => { const d = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
        "  let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i+2] > 180 && d[i] < 120) n++; return n; }"
    )
    assert colours > 200
    # Boxes that another tracker has yet to find are not shown.
    page.locator("#tracker").select_option("csrt")
    page.get_by_role("button", name="Track", exact=True).click()
    # CSRT does not say how sure it is.
    expect(page.locator("#facts")).to_have_text(re.compile(r"^frame ([2-9]|\d{2,}) of 120, [\d.]+ FPS$"))
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#status")).to_have_text("Paused.")
    assert 1 <= int(page.locator("#facts").inner_text().split()[1]) < 120
    scrub(page, 120)
    expect(page.locator("#box-x")).to_have_value("")
    expect(page.locator(".object")).to_contain_text("no box here")
    # A second object in the last frame but two; both have a box at the end, each its colour.
    scrub(page, 118)
    page.get_by_role("button", name="Add an object").click()
    expect(page.get_by_role("radio")).to_have_count(2)
    drag(page, (120, 20, 40, 60))
    expect_box(page, (120, 20, 40, 60))
    track(page)
    assert len(set(page.locator(".swatch").evaluate_all("all => all.map((each) => each.style.background)"))) == 2
    for name in ("Object 1", "Object 2"):
        page.get_by_role("radio", name=name).check()
        expect(page.locator("#box-x")).not_to_have_value("")
    scrub(page, 1)
    expect(page.locator(".object").nth(1)).to_contain_text("no box here")
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("radio")).to_have_count(1)


def test_upload_draw_track_scrub_and_draw_again(page, tmp_path):
    path = write_clip(tmp_path / "my square.mp4", map(scene, range(COUNT)), g="10")
    page.locator("#file").set_input_files(path)
    expect(page.locator("#clip-name")).to_have_text("my square.mp4")
    expect(page.locator("#hint")).to_have_text("Draw a box around what to follow")
    expect(page.get_by_role("button", name="Track", exact=True)).to_be_disabled()
    assert page.locator("#stage").bounding_box()["width"] > 400  # 160 pixels are enlarged
    drag(page, BOX)
    expect(page.locator("#hint")).to_have_text("")
    expect_box(page, BOX)
    track(page)
    expect(page.locator("#facts")).to_contain_text(f"frame {COUNT} of {COUNT}")
    # It followed the square; scrubbing shows the box where it was.
    expect_box(page, (20 + 2 * (COUNT - 1), 40, 24, 24), within=8)
    scrub(page, 11)
    expect_box(page, (40, 40, 24, 24), within=8)
    page.get_by_role("button", name="One frame forward").click()
    expect(page.locator("#facts")).to_contain_text("frame 12 of")
    # Drawn again elsewhere: from there on it is tracked anew, the boxes before it stay.
    drag(page, OTHER)
    expect(page.locator("#facts")).to_contain_text("drawn")
    expect_box(page, OTHER)
    page.get_by_role("button", name="One frame forward").click()
    expect(page.locator("#box-x")).to_have_value("")
    track(page)
    scrub(page, 11)
    expect_box(page, (40, 40, 24, 24), within=8)
    scrub(page, 14)
    expect_box(page, OTHER, within=8)


def test_a_finger_draws_and_a_second_one_does_not_disturb_it(browser, server):
    with opened(browser, server, has_touch=True, viewport={"width": 390, "height": 800}) as page:
        open_square(page)
        for fingers in (1, 2):
            page.locator("#stage").scroll_into_view_if_needed()
            first, middle, end = place(page, 20, 40), place(page, 32, 52), place(page, 44, 64)
            second = place(page, 120, 100)
            both = [("Move", [middle]), ("Start", [middle, second]), ("Move", [end, second]), ("End", [end])]
            touch(page, ("Start", [first]), *(both if fingers == 2 else [("Move", [end])]), ("End", []))
            expect_box(page, BOX)
            page.get_by_role("button", name="Remove it").click()
            expect(page.locator("#box-x")).to_have_value("")


def test_all_of_it_by_keyboard(page):
    def press(*keys):
        for key in keys:
            page.keyboard.press(key)

    def tab_to(selector, key="Tab"):
        for _ in range(60):
            if page.locator(selector).evaluate("each => each === document.activeElement"):
                return
            press(key)
        raise AssertionError(f"the key {key} does not lead to {selector}")

    tab_to("#media button")
    press("Enter")
    expect(page.locator("#media").get_by_role("button", name="square.mp4")).to_be_visible()
    page.locator("#media").get_by_role("button", name="square.mp4").focus()
    press("Enter")
    expect(page.locator("#facts")).to_contain_text("frame 1 of")
    expect(page.locator("#stage")).to_be_focused()
    # The box typed, …
    tab_to("#box-x")
    for value in (18, 38, 28, 28):
        page.keyboard.type(str(value))
        press("Tab")
    press("Enter")
    expect(page.locator("#facts")).to_contain_text("drawn")
    # … moved and made smaller by arrow keys, …
    tab_to("#stage", "Shift+Tab")
    press("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", *["Shift+ArrowLeft"] * 4, *["Shift+ArrowUp"] * 4)
    expect_box(page, BOX)
    # … tracked by the space bar, and looked at frame by frame, wherever the focus is.
    press(" ")
    expect(page.locator("#status")).to_have_text(TRACKED)
    page.locator("#track").focus()
    press(",", ",")
    expect(page.locator("#facts")).to_contain_text(f"frame {COUNT - 2} of")
    tab_to("#scrub")
    press("Home")
    expect(page.locator("#facts")).to_contain_text("frame 1 of")
    expect_box(page, BOX)
    press("ArrowRight")
    expect(page.locator("#facts")).to_contain_text("frame 2 of")
    # Objects by their numbers; a field keeps what is typed into it.
    page.get_by_role("button", name="Add an object").click()
    expect(page.get_by_role("radio", name="Object 2")).to_be_checked()
    press("1")
    expect(page.get_by_role("radio", name="Object 1")).to_be_checked()
    press("ArrowLeft", "2")
    expect(page.get_by_role("radio", name="Object 2")).to_be_checked()
    expect(page.locator("#box-x")).to_have_value("")  # the key before moved the other one
    page.locator("#box-x").press_sequentially("2.1")
    expect(page.locator("#box-x")).to_have_value("2.1")
    expect(page.get_by_role("radio", name="Object 2")).to_be_checked()


def test_downloads(page, tmp_path):
    open_square(page)
    for each in page.locator(".download").all():
        expect(each).to_be_disabled()
    drag(page, BOX)
    track(page)
    files = {}
    for name in ("Video with boxes", "Boxes (CSV)", "GOT-10k folder (zip)"):
        with page.expect_download() as caught:
            page.get_by_role("button", name=name).click()
        files[caught.value.suggested_filename] = tmp_path / caught.value.suggested_filename
        caught.value.save_as(tmp_path / caught.value.suggested_filename)
    assert sorted(files) == ["square_boxes.csv", "square_got10k.zip", "square_tracked.mp4"]
    assert files["square_boxes.csv"].read_text().count("\n") == 1 + COUNT
    # A second download at once does not take away the first.
    with page.expect_download() as caught:
        page.evaluate("for (const each of document.querySelectorAll('.download')) each.click()")
    assert caught.value.suggested_filename == "square_tracked.mp4"
    expect(page.locator("#export-bar")).to_be_hidden()


def test_another_clip_ends_a_download_and_no_clip_does_not(page, media):
    (media / "letter.mp4").write_text("not a video")
    page.get_by_role("button", name="bigbuckbunny").click()
    expect(page.locator("#facts")).to_contain_text("drawn")
    track(page)
    page.get_by_role("button", name="Choose another clip").click()
    page.locator("#media").get_by_role("button", name="media").click()
    page.locator("#media").get_by_role("button", name="letter.mp4").click()
    assert alert(page) == "letter.mp4 is not a video: it is another kind of file, or damaged."
    expect(page.locator("#clip-name")).to_have_text("bigbuckbunny")
    # A download, and a clip at once.
    page.evaluate("document.querySelector('.download').click()")
    page.locator("#media").get_by_role("button", name="square.mp4").click()
    expect(page.locator("#clip-name")).to_have_text("square.mp4")
    expect(page.locator("#export-bar")).to_be_hidden()


def test_mistakes_are_said_plainly(page, media, tmp_path):
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(2 * 2**20))
    page.locator("#file").set_input_files(large)
    assert alert(page) == "The file is too large (2 MB): at most 1 MB are taken here."
    page.get_by_role("button", name="Dismiss this message").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    picture = next(iter(sorted(write_images(tmp_path / "one", 1).iterdir())))
    page.locator("#file").set_input_files(picture)
    assert alert(page).startswith("That is a single picture")
    page.locator("#file").set_input_files(sorted((media / "frames").iterdir()))  # a sequence's are taken
    expect(page.locator("#facts")).to_contain_text("frame 1 of 5")
    page.get_by_role("button", name="Choose another clip").click()
    open_square(page)
    drag(page, (20, 40, 3, 3))
    assert alert(page) == "The box is too small (3x3 pixels): draw it at least 4 pixels wide and high."
    for side, value in zip("xywh", ("-1000000000000", "0", "1000000", "20"), strict=True):
        page.locator(f"#box-{side}").fill(value)
    page.get_by_role("button", name="Set the box").click()
    expect(page.locator("#alert-text")).to_have_text("The box lies outside the frame, which is 160x120.")
    drag(page, BOX)
    expect_box(page, BOX)
    track(page)  # it goes on from there


def test_a_lost_connection_is_said_and_the_work_comes_back_with_it(browser, server):
    sockets = []

    def prepare(page):
        page.route_web_socket("**/api/session", lambda socket: sockets.append(socket) or socket.connect_to_server())

    with opened(browser, server, prepare) as page:
        open_square(page)
        drag(page, BOX)
        expect_box(page, BOX)
        track(page)
        page.evaluate("window.same = true")
        closed = len(sockets)
        page.route_web_socket("**/api/session", lambda socket: socket.close())  # it does not come back yet
        sockets[-1].close()
        assert alert(page).startswith("The connection to the server is lost: is it still running? Your work is kept")
        expect(page.locator("#connection")).to_have_text("not connected")
        expect(page.get_by_role("button", name="Track", exact=True)).to_be_disabled()
        # The server is there again: clip, boxes and frame come back, and tracking goes on.
        page.route_web_socket("**/api/session", lambda socket: sockets.append(socket) or socket.connect_to_server())
        expect(page.locator("#connection")).to_have_text("")
        expect(page.get_by_role("button", name="Track", exact=True)).to_be_enabled()
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.locator("#facts")).to_contain_text(f"frame {COUNT} of {COUNT}")
        expect_box(page, (20 + 2 * (COUNT - 1), 40, 24, 24), within=8)
        assert len(sockets) == closed + 1
        scrub(page, 11)
        drag(page, OTHER)
        track(page)
        assert page.evaluate("window.same")  # it was not loaded again


def test_a_link_on_another_page_leads_in(browser, server):
    """As in a mail that is read in the browser: the cookie that takes the token's place is sent there, too."""
    page = browser.new_context().new_page()
    link = f"<a href='{server.base}/?token={server.token}'>track</a>"
    page.route("http://mail.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    page.goto("http://mail.example/")
    page.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Choose a clip")).to_be_visible()
    page.context.close()


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (820, "light"), (390, "dark"), (320, "light")]
)
def test_it_fits_and_can_be_read(browser, server, width, scheme, tmp_path):
    with opened(browser, server, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        for step in ("choose", "work"):
            if step == "work":
                open_square(page)
                drag(page, BOX)
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, step
            ground, ink = page.evaluate(
                "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
            )
            assert (brightness(ground) < brightness(ink)) == (scheme == "dark")
            assert contrast(page, "h1") > 7
            assert contrast(page, ".hint:visible") > 4.5
            for each in page.locator("button:visible, .button:visible, select:visible").all():
                assert each.bounding_box()["height"] >= 24
        page.locator("#stage").scroll_into_view_if_needed()
        expect_box(page, BOX)
        assert wait_until(lambda: square_and_box_are_seen(page, tmp_path / "page.png"))


def square_and_box_are_seen(page, path) -> bool:
    """Whether a screenshot of the page has the clip's square and, at its left edge, the box's blue line."""
    page.screenshot(path=path)
    screen = cv2.imread(str(path))[:, :, ::-1].astype(int)
    (x, y), (left, middle) = place(page, 32, 52), place(page, 20, 52)
    square = np.abs(screen[int(y), int(x)] - (230, 180, 60)).max()
    edge = np.abs(screen[int(middle), int(left) - 4 : int(left) + 5] - (63, 160, 224)).max(axis=1).min()
    return square < 25 and edge < 25


def test_a_screen_reader_finds_a_name_for_everything(page):
    for step in ("choose", "work"):
        if step == "work":
            open_square(page)
            drag(page, BOX)
            track(page)
        tree = page.locator("body").aria_snapshot()
        for line in tree.splitlines():
            role = line.strip("- ").split(" ")[0].rstrip(":")
            if role in ("button", "slider", "combobox", "spinbutton", "radio", "img", "progressbar"):
                assert '"' in line, line
    assert 'slider "Frame"' in tree
    assert page.locator("#scrub").get_attribute("aria-valuetext").startswith(f"frame {COUNT} of {COUNT}, confidence 0.")
    assert page.locator("#status").get_attribute("role") == "status"
