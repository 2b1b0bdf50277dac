"""The page in a real browser: what a person does, sees and takes home, and that nothing is lost."""

import json
import re
import zipfile
from collections import Counter

import pytest
from playwright.sync_api import expect

from lib.data.annotations import read_cvat
from lib.utils.workspace import REPOSITORY
from tests.processes import wait_until
from tests.test.web import browsing
from tests.test.web.browsing import BOX, COUNT, OTHER
from tests.test.web.made_clips import scene, write_clip
from tests.test.web.serving import Server

LAST = (20 + 2 * (COUNT - 1), 40, 24, 24)
# Pixels of the timeline in the first object's colour.
COLOURED = (
    "canvas => { const d = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
    " let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i+2] > 180 && d[i] < 120) n++; return n; }"
)


def kept(media):
    """The work beside the clip, as it is once the server has written it."""
    file = media / "square.mp4.tracks.json"
    return json.loads(file.read_text())["objects"] if file.exists() else []


def expect_kept(media, count):
    assert wait_until(lambda: [len(each["boxes"]) for each in kept(media)] == [count])


def test_a_sample_is_tracked_in_two_clicks_then_by_another_tracker(page):
    page.get_by_role("button", name="carphone").click()
    expect(page.locator("#facts")).to_have_text("frame 1 of 120, drawn")
    browsing.expect_box(page, (58, 12, 57, 87))
    browsing.press(page, "Track")
    browsing.expect_fact(page, "FPS")
    browsing.pull(page, (60, 60), (60.4, 60.3))  # a click: it tracks on
    expect(page.locator("#status")).to_have_text(browsing.TRACKED)
    for fact in ("frame 120 of 120", "confidence 0."):
        browsing.expect_fact(page, fact)
    browsing.expect_box(page, (58, 12, 57, 87), within=50)
    assert page.locator("#timeline").evaluate(COLOURED) > 200
    # Boxes that another tracker has yet to find are not shown.
    page.locator("#tracker").select_option("csrt")
    browsing.press(page, "Track")
    # CSRT does not say how sure it is.
    expect(page.locator("#facts")).to_have_text(re.compile(r"^frame ([2-9]|\d{2,}) of 120, [\d.]+ FPS$"))
    browsing.press(page, "Pause")
    expect(page.locator("#status")).to_have_text("Paused.")
    browsing.scrub(page, 120)
    expect(page.locator("#box-x")).to_have_value("")
    expect(page.locator(".object")).to_contain_text("no box here")


def test_upload_draw_track_scrub_draw_again_and_come_back(page, tmp_path):
    path = write_clip(tmp_path / "my square.mp4", map(scene, range(COUNT)), g="10")
    page.locator("#file").set_input_files(path)
    expect(page.locator("#hint")).to_have_text("Draw a box around what to follow")
    browsing.drag(page, BOX)
    browsing.expect_box(page, BOX)
    browsing.track(page)
    browsing.expect_box(page, LAST, within=8)
    browsing.scrub(page, 12)
    # Drawn again elsewhere: from there on it is tracked anew, the boxes before it stay.
    browsing.drag(page, OTHER)
    browsing.expect_box(page, OTHER)
    browsing.press(page, "One frame forward")
    expect(page.locator("#box-x")).to_have_value("")
    # After a reload the file is chosen again, and the work comes back with it, here in many parts.
    script = (REPOSITORY / "lib/test/web/page/app.js").read_text().replace("48 * 1024", "99")
    page.route("**/app.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
    page.reload()
    hint = "12 boxes on my square.mp4 are kept in this browser. Choose the file"
    expect(page.locator("#last-hint")).to_contain_text(hint)
    page.locator("#file").set_input_files(path)
    browsing.expect_box(page, BOX)


def test_fingers_draw_and_zoom(browser, server):
    with browsing.opened(browser, server, has_touch=True, viewport={"width": 390, "height": 800}) as page:
        browsing.open_square(page)
        near, far = ([browsing.place(page, 80 + x, 60) for x in (-by, by)] for by in (10, 40))
        browsing.touch(page, ("Start", near[:1]), ("Start", near), ("Move", far), ("End", far[:1]), ("End", []))
        expect(page.locator("#fit")).to_have_text("4.0x: show all")
        expect(page.locator("#box-x")).to_have_value("")  # nothing was drawn
        page.locator("#fit").click()
        page.locator("#stage").scroll_into_view_if_needed()
        first, middle, end = browsing.place(page, 20, 40), browsing.place(page, 32, 52), browsing.place(page, 44, 64)
        second = browsing.place(page, 120, 100)  # a finger that comes while the first one draws
        both = [("Move", [middle]), ("Start", [middle, second]), ("Move", [end, second]), ("End", [end])]
        browsing.touch(page, ("Start", [first]), *both, ("End", []))
        browsing.expect_box(page, BOX)


def test_all_of_it_by_keyboard(page):
    def keys(*names):
        for name in names:
            page.keyboard.press(name)

    def tab_to(selector, key="Tab"):
        for _ in range(60):
            if page.locator(selector).evaluate("each => each === document.activeElement"):
                return
            keys(key)
        raise AssertionError(f"the key {key} does not lead to {selector}")

    tab_to("#media button")
    keys("Enter")
    page.locator("#media").get_by_role("button", name="square.mp4").focus()
    keys("Enter")
    browsing.expect_fact(page, "frame 1 of")
    expect(page.locator("#stage")).to_be_focused()
    # The box typed, …
    tab_to("#box-x")
    for value in (18, 38, 28, 28):
        page.keyboard.type(str(value))
        keys("Tab")
    keys("Enter")
    browsing.expect_fact(page, "drawn")
    # … moved and made smaller by arrow keys, …
    tab_to("#stage", "Shift+Tab")
    keys("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", *["Shift+ArrowLeft"] * 4, *["Shift+ArrowUp"] * 4)
    browsing.expect_box(page, BOX)
    # … tracked by the space bar, and looked at frame by frame, wherever the focus is.
    keys(" ")
    expect(page.locator("#status")).to_have_text(browsing.TRACKED)
    page.locator("#track").focus()
    keys(",", ",")
    browsing.expect_fact(page, f"frame {COUNT - 2} of")
    tab_to("#scrub")
    keys("Home")
    browsing.expect_box(page, BOX)
    # Objects by their numbers; a field keeps what is typed into it.
    browsing.press(page, "Add an object")
    expect(page.get_by_role("radio", name="Object 2")).to_be_checked()
    keys("1", "ArrowLeft", "2")
    expect(page.get_by_role("radio", name="Object 2")).to_be_checked()
    expect(page.locator("#box-x")).to_have_value("")  # the key before moved the other one
    page.locator("#box-x").press_sequentially("2.1")
    expect(page.locator("#box-x")).to_have_value("2.1")
    expect(page.get_by_role("radio", name="Object 2")).to_be_checked()


def test_a_box_is_moved_resized_nudged_and_the_picture_zoomed(page):
    browsing.open_square(page)
    browsing.drag(page, BOX)
    browsing.expect_box(page, BOX)
    x, y, w, h = BOX
    browsing.pull(page, (x + w / 2, y + h / 2), (x + w / 2 + 30, y + h / 2 + 10))
    browsing.expect_box(page, (x + 30, y + 10, w, h), within=0.3)
    browsing.pull(page, (x + 30 + w, y + 10 + h), (x + 40 + w, y + 15 + h))  # the corner
    browsing.expect_box(page, (x + 30, y + 10, w + 10, h + 5), within=0.3)
    browsing.pull(page, (x + 30, y + 10 + (h + 5) / 2), (x + 25, y + 10 + (h + 5) / 2))  # the left edge
    browsing.expect_box(page, (x + 25, y + 10, w + 15, h + 5), within=0.3)
    page.keyboard.down("Shift")  # a new box inside the old one
    browsing.pull(page, (x + 30, y + 14), (x + 40, y + 28))
    page.keyboard.up("Shift")
    browsing.expect_box(page, (x + 30, y + 14, 10, 14), within=0.3)
    # Zoomed in around a point, that point stays, and a drag there is as precise as the screen.
    page.mouse.move(*browsing.place(page, 80, 60))
    for _ in range(4):
        page.mouse.wheel(0, -300)
    expect(page.locator("#fit")).to_be_visible()
    times = 1.0015**1200
    browsing.pull(page, (80, 60), (80 + 10 * times, 60 + 10 * times))
    browsing.expect_box(page, (80, 60, 10, 10), within=0.3)
    # Held, the space bar drags the picture, and does not track.
    page.keyboard.down(" ")
    browsing.pull(page, (80, 60), (80 + 5 * times, 60))
    page.keyboard.up(" ")
    expect(page.locator("#track")).to_have_text("Track")
    browsing.pull(page, (20, 110), (20 + 10 * times, 110 + 8 * times))
    browsing.expect_box(page, (80 + (20 - 80 - 5 * times) / times, 60 + 50 / times, 10, 8), within=0.3)
    page.locator("#fit").click()
    expect(page.locator("#fit")).to_be_hidden()


def test_every_action_can_be_undone_and_done_again(page):
    browsing.open_square(page)
    expect(page.locator("#undo")).to_be_disabled()
    browsing.drag(page, BOX)
    browsing.expect_box(page, BOX)
    browsing.track(page)
    browsing.expect_box(page, LAST, within=8)
    page.keyboard.press("Control+z")  # tracking
    expect(page.locator("#box-x")).to_have_value("")
    page.keyboard.press("Control+Shift+Z")
    browsing.expect_box(page, LAST, within=8)
    browsing.press(page, "Absent here")
    expect(page.locator(".object")).to_contain_text("absent")
    browsing.press(page, "Add an object")
    expect(page.get_by_role("radio")).to_have_count(2)
    for _ in range(2):
        page.keyboard.press("Control+z")
    browsing.expect_box(page, LAST, within=8)
    # Many tracked frames are not removed without a question.
    browsing.press(page, "Remove it")
    browsing.press(page, "Keep")
    browsing.expect_box(page, LAST, within=8)
    browsing.press(page, "Remove it")
    expect(page.get_by_role("dialog")).to_contain_text(f"Remove object 1 with its {COUNT - 1} tracked frames?")
    browsing.press(page, "Remove")
    expect(page.locator("#box-x")).to_have_value("")
    browsing.press(page, "Undo")
    browsing.expect_box(page, LAST, within=8)


def test_playing_ranges_backwards_and_absence(page, media):
    browsing.open_square(page)
    page.locator("#speed").select_option("4")
    browsing.press(page, "Play")
    browsing.expect_fact(page, f"frame {COUNT} of")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    # Backwards from the middle.
    browsing.scrub(page, 21)
    browsing.drag(page, (60, 40, 24, 24))
    browsing.expect_box(page, (60, 40, 24, 24))
    browsing.press(page, "Track backwards")
    expect(page.locator("#status")).to_have_text("The range is tracked.")
    browsing.expect_fact(page, "frame 1 of")
    browsing.expect_box(page, BOX, within=8)
    browsing.track(page)
    expect_kept(media, COUNT)
    # Absent in a range, by keys; then only these frames are without a box.
    browsing.scrub(page, 31)
    page.keyboard.press("[")
    browsing.scrub(page, 33)
    page.keyboard.press("]")
    browsing.press(page, "Absent here")
    browsing.expect_fact(page, "absent")
    assert wait_until(lambda: kept(media)[0]["absent"] == [30, 31, 32])
    assert [row[0] for row in kept(media)[0]["boxes"]] == [*range(30), *range(33, COUNT)]
    browsing.press(page, "Clear boxes")
    expect(page.locator("#facts")).not_to_contain_text("absent")
    browsing.press(page, "Track range")
    expect(page.locator("#status")).to_have_text("The range is tracked.")
    browsing.expect_box(page, (84, 40, 24, 24), within=8)
    expect_kept(media, COUNT)
    browsing.press(page, "No range")


def test_reload_closed_tab_and_restarted_server_bring_the_work_back(browser, media, tmp_path):
    options = ("--media", str(media), "--tracker", "csrt")
    server = Server(tmp_path, *options)
    try:
        with browsing.opened(browser, server, forgive="ERR_CONNECTION_REFUSED") as page:
            browsing.open_square(page)
            browsing.drag(page, BOX)
            page.locator("#name").fill("  square ")
            page.keyboard.press("Tab")
            expect(page.get_by_role("radio", name="square")).to_be_checked()
            page.locator("#tracker").select_option("kcf")
            browsing.track(page)
            expect_kept(media, COUNT)
            page.reload()
            browsing.expect_fact(page, "frame 1 of")
            browsing.expect_box(page, BOX)
            expect(page.locator("#tracker")).to_have_value("kcf")
            browsing.scrub(page, COUNT)
            browsing.expect_box(page, LAST, within=8)
            # The server ends, and another one begins at the same address: the page goes on by itself.
            server.stop()
            assert "connection to the server is lost" in browsing.alert(page)
            expect(page.locator("#track")).to_be_disabled()
            server = Server(tmp_path / "again", *options, "--port", server.base.rpartition(":")[2])
            expect(page.locator("#track")).to_be_enabled()
            expect(page.get_by_role("alert")).to_be_hidden()
            browsing.expect_fact(page, f"frame {COUNT} of {COUNT}")
            browsing.expect_box(page, LAST, within=8)
            # Also where nothing lies beside the clip: a new tab offers what the browser keeps.
            with page.context.expect_page():
                page.evaluate("window.open('about:blank')")
            page.context.pages[-1].close()
            page.close()
            assert wait_until(lambda: not any(each.is_dir() for each in server.files.glob("stark-web-*/*")))
            (media / "square.mp4.tracks.json").unlink()
            page = page.context.new_page()
            page.goto(server.base)
            browsing.press(page, "Go on with square.mp4")
            expect(page.get_by_role("radio", name="square")).to_be_checked()
            browsing.expect_box(page, BOX)
            expect_kept(media, COUNT)
    finally:
        server.stop()


def test_what_is_drawn_is_in_the_timeline_and_taken_home(page, tmp_path):
    browsing.open_square(page)
    for each in page.locator(".download").all():
        expect(each).to_be_disabled()
    assert page.locator("#timeline").evaluate(COLOURED) == 0
    browsing.drag(page, BOX)
    browsing.expect_box(page, BOX)
    assert wait_until(lambda: page.locator("#timeline").evaluate(COLOURED) > 10)
    wide = page.locator("#timeline").evaluate(COLOURED)
    browsing.press(page, "Timeline: show fewer frames")
    assert wait_until(lambda: page.locator("#timeline").evaluate(COLOURED) > wide)
    page.locator("#name").fill("square")
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="square")).to_be_checked()
    files = {}
    for name in ("Video with boxes", "Boxes (CSV)", "GOT-10k folder (zip)", "CVAT (XML)", "MOT (zip)"):
        with page.expect_download() as caught:
            browsing.press(page, name)
        files[caught.value.suggested_filename] = tmp_path / caught.value.suggested_filename
        caught.value.save_as(files[caught.value.suggested_filename])
        expect(page.locator("#export-bar")).to_be_hidden()
    table, cvat, got10k, mot, video = (files[name] for name in sorted(files))
    assert (video.name, got10k.name) == ("square_tracked.mp4", "square_got10k.zip")
    assert table.read_text().splitlines()[1:] == ["1,1,20.00,40.00,24.00,24.00,,1,square"]
    (found,) = read_cvat(cvat, [tmp_path / f"{index}.jpg" for index in range(COUNT)], Counter())
    assert (found.label, found.numbers[found.present].tolist()) == ("square", [0])
    assert found.boxes[0] == pytest.approx(BOX, abs=0.3)
    with zipfile.ZipFile(mot) as archive:
        assert archive.read("gt/gt.txt").decode().startswith("1,1,20,40,24,24,1,1,1")
        assert archive.read("gt/labels.txt") == b"square\n"


def test_a_link_in_a_mail_leads_to_a_folders_ground_truth_and_to_trackers_that_need_weights(browser, server, media):
    page = browser.new_page()
    link = f"<a href='{server.base}/?token={server.token}'>track</a>"
    page.route("http://mail.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    page.goto("http://mail.example/")
    page.get_by_role("link").click()
    for name in ("media", "frames"):
        page.locator("#media").get_by_role("button", name=name).click()
    expect(page.locator("#media-path")).to_have_text(str(media / "frames"))
    for name in ("Open these 5 pictures", "Open groundtruth.txt"):
        browsing.press(page, name)
    browsing.expect_box(page, (4, 4, 20, 20))
    page.get_by_text("Needs weights").click()
    where = page.locator("#missing-list dt", has_text=re.compile("^stark_s baseline$")).locator("+ dd")
    expect(where).to_have_text(re.compile("/checkpoints/train/stark_s/baseline/STARKS_ep0500.pth.tar$"))
    assert "stark_s baseline" not in page.locator("#tracker option").all_inner_texts()
    page.close()


def test_mistakes_are_said_plainly(page, media, tmp_path):
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(2 * 2**20))
    page.locator("#file").set_input_files(large)
    assert browsing.alert(page) == "The file is too large (2 MB): at most 1 MB are taken here."
    browsing.press(page, "Dismiss this message")
    expect(page.get_by_role("alert")).to_be_hidden()
    page.locator("#file").set_input_files(sorted((media / "frames").glob("*.jpg")))
    browsing.expect_fact(page, "frame 1 of 5")
    (media / "letter.mp4").write_text("not a video")
    browsing.press(page, "Choose another clip")
    page.locator("#media").get_by_role("button", name="media").click()
    page.locator("#media").get_by_role("button", name="letter.mp4").click()
    assert browsing.alert(page) == "letter.mp4 is not a video: it is another kind of file, or damaged."
    page.locator("#media").get_by_role("button", name="square.mp4").click()
    browsing.expect_fact(page, f"frame 1 of {COUNT}")
    browsing.drag(page, (20, 40, 3, 3))
    assert browsing.alert(page).startswith("The box is too small (3x3 pixels within the frame): draw it at least 4")
    browsing.drag(page, BOX)
    browsing.expect_box(page, BOX)
    browsing.track(page)  # it goes on from there


@pytest.mark.parametrize(
    ("width", "height", "scheme", "least"),
    [(1366, 768, "light", 570), (390, 844, "dark", 340), (844, 390, "light", 340), (2560, 1440, "dark", 1400)],
)
def test_it_fits_the_screen_and_can_be_read(browser, server, width, height, scheme, least, tmp_path):
    with browsing.opened(browser, server, viewport={"width": width, "height": height}, color_scheme=scheme) as page:
        for step in ("choose", "work"):
            if step == "work":
                browsing.open_square(page)
                browsing.drag(page, BOX)
            assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
            assert browsing.contrast(page, "h1") > 7
            assert browsing.contrast(page, ".hint:visible") > 4.5
            # A screen reader finds a name for everything.
            for line in page.locator("body").aria_snapshot().splitlines():
                role = line.strip("- ").split(" ")[0].rstrip(":")
                if role in ("button", "slider", "combobox", "spinbutton", "radio", "img", "progressbar"):
                    assert '"' in line, line
        browsing.expect_box(page, BOX)
        button = page.locator("#track").bounding_box()
        assert 0 <= button["y"] <= height - button["height"]  # it stays in reach
        page.locator("#stage").scroll_into_view_if_needed()
        assert wait_until(lambda: browsing.square_and_box_are_seen(page, tmp_path / "page.png"))
        wide, before = page.locator("#stage").bounding_box(), page.locator("#undo").bounding_box()
        page.locator("#box-w").evaluate("each => { each.value = 1; each.form.requestSubmit(); }")
        assert "too small" in browsing.alert(page)
        assert page.locator("#undo").bounding_box() == before  # the message moves nothing
        browsing.press(page, "Choose another clip")
        page.locator("#media").get_by_role("button", name="tall.mp4").click()
        expect(page.locator("#clip-name")).to_have_text("tall.mp4")
        tall = page.locator("#stage").bounding_box()
        assert wide["width"] >= least
        assert tall["height"] >= min(wide["height"], 300)
        assert tall["width"] / tall["height"] == pytest.approx(90 / 160, rel=0.02)
