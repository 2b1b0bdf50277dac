"""Nothing is lost: reload, closed tab, restarted server, undo; and what else a person does to correct tracks."""

import json
import zipfile
from collections import Counter

import pytest
from playwright.sync_api import expect

from lib.data.annotations import read_cvat
from tests.processes import wait_until
from tests.test.web.browsing import (
    BOX,
    COUNT,
    OTHER,
    TRACKED,
    alert,
    drag,
    expect_box,
    open_square,
    opened,
    place,
    scrub,
    touch,
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
            page.locator("#tracker").select_option("kcf")
            track(page)
            assert wait_until(lambda: [len(each["boxes"]) for each in kept(media)] == [COUNT])
            page.reload()
            expect(page.locator("#facts")).to_contain_text("frame 1 of")
            expect_box(page, BOX)
            expect(page.locator("#tracker")).to_have_value("kcf")
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


def test_a_box_is_moved_resized_nudged_and_the_picture_zoomed(page):
    open_square(page)
    drag(page, BOX)
    expect_box(page, BOX)
    x, y, w, h = BOX

    def pull(start, end):
        page.mouse.move(*place(page, *start))
        page.mouse.down()
        page.mouse.move(*place(page, *end))
        page.mouse.up()

    pull((x + w / 2, y + h / 2), (x + w / 2 + 30, y + h / 2 + 10))
    expect_box(page, (x + 30, y + 10, w, h), within=0.3)
    pull((x + 30 + w, y + 10 + h), (x + 40 + w, y + 15 + h))  # the corner
    expect_box(page, (x + 30, y + 10, w + 10, h + 5), within=0.3)
    pull((x + 30, y + 10 + (h + 5) / 2), (x + 25, y + 10 + (h + 5) / 2))  # the left edge
    expect_box(page, (x + 25, y + 10, w + 15, h + 5), within=0.3)
    page.keyboard.press("ArrowLeft")
    expect_box(page, (x + 24, y + 10, w + 15, h + 5), within=0.3)
    page.keyboard.down("Shift")  # a new box inside the old one
    pull((x + 30, y + 14), (x + 40, y + 28))
    page.keyboard.up("Shift")
    expect_box(page, (x + 30, y + 14, 10, 14), within=0.3)
    # Zoomed in around a point, that point stays, and a drag there is as precise as the screen.
    page.mouse.move(*place(page, 80, 60))
    for _ in range(4):
        page.mouse.wheel(0, -300)
    expect(page.locator("#fit")).to_be_visible()
    times = 1.0015**1200
    page.keyboard.press("Shift")
    pull((80, 60), (80 + 10 * times, 60 + 10 * times))
    expect_box(page, (80, 60, 10, 10), within=0.3)
    # Held, the space bar drags the picture, and does not track.
    page.keyboard.down(" ")
    pull((80, 60), (80 + 5 * times, 60))
    page.keyboard.up(" ")
    expect(page.locator("#track")).to_have_text("Track")
    page.keyboard.press("Escape")
    pull((20, 110), (20 + 10 * times, 110 + 8 * times))
    expect_box(page, (80 + (20 - 80 - 5 * times) / times, 60 + 50 / times, 10, 8), within=0.3)
    page.locator("#fit").click()
    expect(page.locator("#fit")).to_be_hidden()


def test_two_fingers_zoom(browser, server):
    with opened(browser, server, has_touch=True, viewport={"width": 390, "height": 800}) as page:
        open_square(page)
        near, far = [place(page, 70, 60), place(page, 90, 60)], [place(page, 40, 60), place(page, 120, 60)]
        touch(page, ("Start", near[:1]), ("Start", near), ("Move", far), ("End", far[:1]), ("End", []))
        expect(page.locator("#fit")).to_have_text("4.0x: show all")
        expect(page.locator("#box-x")).to_have_value("")  # nothing was drawn


def test_playing_ranges_backwards_absence_and_names(page, media):
    open_square(page)
    page.locator("#speed").select_option("4")
    press(page, "Play")
    expect(page.locator("#facts")).to_contain_text(f"frame {COUNT} of")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    # Backwards from the middle.
    scrub(page, 21)
    drag(page, (60, 40, 24, 24))
    expect_box(page, (60, 40, 24, 24))
    press(page, "Track backwards")
    expect(page.locator("#status")).to_have_text("The range is tracked.")
    expect(page.locator("#facts")).to_contain_text("frame 1 of")
    expect_box(page, BOX, within=8)
    track(page)
    assert wait_until(lambda: [len(each["boxes"]) for each in kept(media)] == [COUNT])
    # Absent in a range, by keys; then only these frames are without a box.
    scrub(page, 31)
    page.keyboard.press("[")
    scrub(page, 33)
    page.keyboard.press("]")
    press(page, "Absent here")
    expect(page.locator("#facts")).to_contain_text("absent")
    assert wait_until(lambda: kept(media)[0]["absent"] == [30, 31, 32])
    assert [row[0] for row in kept(media)[0]["boxes"]] == [*range(30), *range(33, COUNT)]
    press(page, "Clear boxes")
    expect(page.locator("#facts")).not_to_contain_text("absent")
    press(page, "Track range")
    expect(page.locator("#status")).to_have_text("The range is tracked.")
    expect_box(page, (84, 40, 24, 24), within=8)
    assert wait_until(lambda: len(kept(media)[0]["boxes"]) == COUNT)
    press(page, "No range")
    page.locator("#name").fill(" the  square ")
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="the square")).to_be_checked()


def test_a_folders_ground_truth_is_opened_and_corrected(page, media):
    (media / "frames/groundtruth.txt").write_text("4,4,20,20\n5,4,20,20\nnan,nan,nan,nan\n7,4,20,20\n8,4,20,20\n")
    page.locator("#media").get_by_role("button", name="media").click()
    page.locator("#media").get_by_role("button", name="frames").click()
    expect(page.locator("#media-path")).to_have_text(str(media / "frames"))
    press(page, "Open these 5 pictures")
    press(page, "Open groundtruth.txt")
    expect_box(page, (4, 4, 20, 20))
    scrub(page, 2)
    page.locator("#stage").focus()
    page.keyboard.press("ArrowDown")
    expect_box(page, (5, 5, 20, 20))
    scrub(page, 3)
    expect(page.locator("#facts")).to_contain_text("absent")
    scrub(page, 5)
    expect_box(page, (8, 4, 20, 20))
    (media / "frames/groundtruth.txt").unlink()


def test_what_is_only_drawn_is_in_the_timeline_and_taken_home(page, tmp_path):
    open_square(page)
    coloured = (
        "canvas => { const d = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
        " let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i+2] > 180 && d[i] < 120) n++; return n; }"
    )
    assert page.locator("#timeline").evaluate(coloured) == 0
    drag(page, BOX)
    expect_box(page, BOX)
    assert wait_until(lambda: page.locator("#timeline").evaluate(coloured) > 10)
    wide = page.locator("#timeline").evaluate(coloured)
    press(page, "Timeline: show fewer frames")
    assert wait_until(lambda: page.locator("#timeline").evaluate(coloured) > wide)
    page.locator("#name").fill("square")
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="square")).to_be_checked()
    files = {}
    for name in ("Boxes (CSV)", "CVAT (XML)", "MOT (zip)"):
        with page.expect_download() as caught:
            press(page, name)
        files[name] = tmp_path / caught.value.suggested_filename
        caught.value.save_as(files[name])
        expect(page.locator("#export-bar")).to_be_hidden()
    assert files["Boxes (CSV)"].read_text().splitlines()[1:] == ["1,1,20.00,40.00,24.00,24.00,,1,square"]
    (cvat,) = read_cvat(files["CVAT (XML)"], [tmp_path / f"{index}.jpg" for index in range(COUNT)], Counter())
    assert (cvat.label, cvat.numbers[cvat.present].tolist()) == ("square", [0])
    assert cvat.boxes[0] == pytest.approx(BOX, abs=0.3)
    with zipfile.ZipFile(files["MOT (zip)"]) as archive:
        assert archive.read("gt/gt.txt").decode().startswith("1,1,20,40,24,24,1,1,1")
        assert archive.read("gt/labels.txt") == b"square\n"


def test_track_stays_in_reach_and_the_video_takes_the_room_there_is(browser, server, media):
    write_clip(media / "tall.mp4", (scene(index, (90, 160)) for index in range(3)))
    stage = {}
    for width, height in ((844, 390), (390, 844), (1366, 768), (2560, 1440)):
        with opened(browser, server, viewport={"width": width, "height": height}) as page:
            open_square(page)
            drag(page, OTHER)
            expect_box(page, OTHER)
            box = page.locator("#track").bounding_box()
            assert 0 <= box["y"] <= height - box["height"]
            page.evaluate("scrollTo(0, 0)")
            before = page.locator("#undo").bounding_box()
            page.locator("#box-w").fill("1")
            page.get_by_role("button", name="Set the box").click()
            assert "too small" in alert(page)
            page.evaluate("scrollTo(0, 0)")
            assert page.locator("#undo").bounding_box() == before  # the alert moves nothing
            stage[width] = page.locator("#stage").bounding_box()
            press(page, "Dismiss this message")
            press(page, "Choose another clip")
            page.locator("#media").get_by_role("button", name="tall.mp4").click()
            expect(page.locator("#clip-name")).to_have_text("tall.mp4")
            tall = page.locator("#stage").bounding_box()
            assert tall["height"] >= min(stage[width]["height"], 300)
            assert tall["width"] / tall["height"] == pytest.approx(90 / 160, rel=0.02)
    assert stage[2560]["width"] > 1.6 * stage[1366]["width"]


def test_trackers_without_weights_stand_apart_with_the_files_name(page):
    open_square(page)
    offered = page.locator("#tracker option").all_inner_texts()
    page.get_by_text("Needs weights").click()
    missing = page.locator("#missing-list dt").all_inner_texts()
    assert missing
    assert not set(offered) & set(missing)
    index = missing.index("stark_s baseline")
    where = page.locator("#missing-list dd").nth(index).inner_text()
    assert where.endswith("checkpoints/train/stark_s/baseline/STARKS_ep0500.pth.tar")
