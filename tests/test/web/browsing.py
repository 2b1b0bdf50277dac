"""What a person does with the page, and sees of it."""

import re
from contextlib import contextmanager
from urllib.parse import urlsplit

import cv2
import numpy as np
from playwright.sync_api import expect

from tests.processes import wait_until

COUNT = 40
BOX, OTHER = (20, 40, 24, 24), (110, 84, 24, 24)  # `scene`'s squares, the moving one in the first frame
WAIT = 180_000  # ms; for slow machines
TRACKED = "Tracked to the end."


@contextmanager
def opened(browser, server, prepare=lambda page: None, forgive=None, **options):
    """The page, by the address that the server printed; its mistakes and its calls elsewhere are errors.

    `forgive`: a part of the messages that are none.
    """
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 860}} | options))
    page, wrong = context.new_page(), []
    page.set_default_timeout(WAIT)
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda message: message.type == "error" and wrong.append(f"console: {message.text}"))
    page.on("request", lambda request: _is_elsewhere(request.url, server) and wrong.append(request.url))
    prepare(page)
    page.goto(f"{server.base}/?token={server.token}")
    expect(page.locator("#connection")).to_have_text("")
    assert page.url == f"{server.base}/"  # the token is not left in the address
    try:
        yield page
    finally:
        context.close()
    assert [each for each in wrong if forgive is None or forgive not in each] == []


def _is_elsewhere(url, server):
    return urlsplit(url).scheme not in ("blob", "data") and not url.startswith(server.base)


def open_square(page):
    """Open `square.mp4` of the server's directory."""
    for name in ("media", "square.mp4"):
        page.locator("#media").get_by_role("button", name=name).click()
    expect_fact(page, f"frame 1 of {COUNT}")  # and not of the clip before


def place(page, x, y):
    """Where a point of the frame is on the screen."""
    area = page.locator("#stage").bounding_box()
    width, height = map(int, re.match(r"(\d+)x(\d+)", page.locator("#clip-facts").inner_text()).groups())
    return area["x"] + x * area["width"] / width, area["y"] + y * area["height"] / height


def drag(page, box):
    """Draw a box xywh in the frame's pixels with the mouse."""
    x, y, w, h = box
    pull(page, (x, y), (x + w, y + h))


def pull(page, start, end):
    """Drag from a point of the frame to another one."""
    page.mouse.move(*place(page, *start))
    page.mouse.down()
    page.mouse.move(*place(page, *end))
    page.mouse.up()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def touch(page, *steps):
    """Touch the screen: each step is `Start`, `Move` or `End`, and the places of the fingers."""
    session = page.context.new_cdp_session(page)
    for kind, places in steps:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})


def shown_box(page):
    """The selected object's box in the fields."""
    return [float(page.locator(f"#box-{side}").input_value() or "nan") for side in "xywh"]


def expect_box(page, box, within=1.0):
    assert wait_until(lambda: np.abs(np.subtract(shown_box(page), box)).max() <= within), shown_box(page)


def expect_fact(page, text):
    """A part of the line below the picture."""
    expect(page.locator("#facts")).to_contain_text(text)


def track(page, until=TRACKED):
    press(page, "Track")
    expect(page.locator("#status")).to_have_text(until)


def scrub(page, frame):
    """Go to a frame, from 1."""
    page.locator("#scrub").evaluate(
        "(line, value) => { line.value = value; line.dispatchEvent(new Event('input')); }", frame - 1
    )
    expect_fact(page, f"frame {frame} of")


def alert(page):
    expect(page.get_by_role("alert")).to_be_visible()
    return page.locator("#alert-text").inner_text()


def contrast(page, selector):
    """Of a text to the page's ground."""
    style = "each => [getComputedStyle(each).color, getComputedStyle(document.body).backgroundColor]"
    colours = [re.findall(r"\d+", each)[:3] for each in page.locator(selector).first.evaluate(style)]
    linear = ((np.array(colours, float) / 255 + 0.055) / 1.055) ** 2.4
    dark, bright = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return (bright + 0.05) / (dark + 0.05)


def square_and_box_are_seen(page, path) -> bool:
    """Whether a screenshot of the page has the clip's square and, at its left edge, the box's blue line."""
    page.screenshot(path=path)
    screen = cv2.imread(str(path))[:, :, ::-1].astype(int)
    (x, y), (left, middle) = place(page, 32, 52), place(page, 20, 52)
    square = np.abs(screen[int(y), int(x)] - (230, 180, 60)).max()
    edge = np.abs(screen[int(middle), int(left) - 4 : int(left) + 5] - (63, 160, 224)).max(axis=1).min()
    return square < 25 and edge < 25
