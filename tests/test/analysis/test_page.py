"""The page: whole in one file, safe with any name, with pictures of the hardest sequences."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from lib.data.registry import load_dataset
from lib.data.sequence import Sequence
from lib.test.analysis.page import save_page
from lib.test.analysis.plots import PLOTS, plot_attributes, plot_trackers
from lib.test.analysis.scores import TrackerScores, score_source
from lib.test.analysis.selection import ResultSource
from lib.test.analysis.tables import all_tables, score_notes
from lib.test.analysis.timeline import binned, sequence_views, worst_moments
from lib.test.evaluation.result_files import NOTE, result_path
from tests.data.made_sets import moving_boxes, write_boxes, write_results, write_sequence
from tests.test.web.conftest import browser  # noqa: F401 - the system's Chromium

EVIL = "<script>alert(1)</script>&\"'"


@pytest.fixture
def sequences(tmp_path: Path) -> dict[str, Sequence]:
    for name, count in (("ant", 6), ("bee", 10), ("cow", 4)):
        write_sequence(tmp_path / "set", name, count)
    return {sequence.name: sequence for sequence in load_dataset(f"folder:{tmp_path / 'set'}")}


def score(folder: Path, label: str, sequences: dict[str, Sequence], shifts: list[float | None]) -> TrackerScores:
    """A tracker that is off by so many pixels in each sequence, or has no result of it."""
    for sequence, shift in zip(sequences.values(), shifts, strict=True):
        if shift is not None:
            write_results(folder, [sequence], shift)
    return score_source(ResultSource(label, folder, label, folder), sequences)


class Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.lasttag not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def save(path: Path, title: str, trackers: list[TrackerScores], views: list[dict], groups=(), plots=()) -> Page:
    save_page(path, title, trackers, score_notes(trackers), all_tables(trackers, dict(groups)), plots, views)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def page(tmp_path, sequences) -> Page:
    trackers = [
        score(tmp_path / "a", EVIL, sequences, [1, 30, 0]),
        score(tmp_path / "b", "Sequences", sequences, [4, None, 2]),  # as a column is called
    ]
    made_by = {"weights_file": "/w/a.pth.tar", "device": "cuda:1", "started": "2026-01-02 03:04+00:00", "torch": "9.9"}
    note = {"weights": "ab" * 32, "engine": "torch bf16", "TEST.WINDOW": 0.4, "made_by": {**made_by, "numpy": ""}}
    (tmp_path / "a" / NOTE).write_text(json.dumps(note))
    (tmp_path / "b" / NOTE).write_text(json.dumps({"weights": "", "engine": "opencv", "made_by": {}}))
    plots = [plot_trackers(kind, EVIL, trackers) for kind in PLOTS]
    groups = {("attribute", f"{EVIL}{i}"): ["ant", "bee"] for i in range(3)}
    plots.append(plot_attributes(EVIL, trackers, groups))
    return save(tmp_path / "page.html", f"{EVIL} set", trackers, sequence_views(trackers, sequences, 2), groups, plots)


def test_it_is_whole_and_loads_nothing(page):
    assert page.elements[0][0] == "html"
    assert not page.all("link")
    assert all("src" not in script for script in page.all("script"))
    assert page.all("image")
    assert all(image["href"].startswith("data:image/jpeg;base64,") for image in page.all("image"))
    assert any("default-src 'none'" in meta.get("content", "") for meta in page.all("meta"))


def test_names_are_shown_as_they_are(page):
    assert len(page.all("script")) == 1
    assert page.text.count(EVIL) >= 5  # title, tables, legends, notes
    assert "Sequences: no result for 1 of 3 sequences: bee" in page.text


def test_tables_show_the_best_of_those_that_compare(page):
    assert [attributes["class"] for attributes in page.all("table")] == ["dataframe sortable"] * 3
    assert "2/3*" in page.text
    assert len(page.all("b")) == 2  # of the sequences that both trackers have; no total compares, nor does a group


def test_plots_have_a_line_a_tracker_whose_styles_differ(page):
    plots = [attributes for attributes in page.all("svg") if attributes.get("class") == "plot"]
    styles = [path.get("style", "") for path in page.all("path")]
    assert len(plots) == 4
    lines = [[style for style in styles if f"stroke: var(--line-{i})" in style] for i in range(2)]
    assert [len(each) for each in lines] == [8, 8]  # the curve, and in the legend
    assert ["stroke-dasharray" in style for each in lines for style in each] == [False] * 8 + [True] * 8
    assert not any("#" in style for style in styles)  # a colour that the page does not change in the dark
    assert plot_attributes("set", [], {("attribute", "one"): ["ant"]}) is None


def test_it_says_what_was_run_and_how(page):
    for text in (
        "torch bf16",
        "cuda:1",
        "/w/a.pth.tar",
        "ab" * 8,
        "2026-01-02 03:04 UTC",
        "TEST.WINDOW=0.4",
        "torch 9.9",
    ):
        assert text in page.text
    assert [line.strip() for line in page.text.splitlines()].count("10.0") == 1  # FPS of the network, not the baseline


def test_the_hardest_come_first_with_overlaps_and_boxes(tmp_path, sequences):
    tracker = score(tmp_path / "a", "t", sequences, [1, 30, 12])
    views = sequence_views([tracker], sequences, 2)
    assert [each["name"] for each in views] == ["bee", "cow", "ant"]
    bee, ant = views[0], views[2]
    assert (bee["frames"], bee["columns"], bee["absent"]) == (10, 10, "")
    assert bee["paths"] == ["M0 0l0 0 1 100" + " 1 0" * 8]
    assert ant["pictures"] == ant["marks"] == []
    captions = [picture["caption"] for picture in bee["pictures"]]
    assert captions[:2] == ["frame 1, start", "frame 2, lost for 9 frames"]
    assert bee["marks"][:2] == [0, 1]
    start, second = bee["pictures"][:2]
    assert start["boxes"] == [("truth", *sequences["bee"].truth[0].round(1))]
    assert second["boxes"] == [(0, 43, 31, 19, 16), ("truth", 13, 31, 19.9, 16)]
    assert (second["width"], second["height"]) == (128, 96)
    assert second["address"].startswith("data:image/jpeg;base64,")


def test_the_worst_moments_are_the_longest_losses():
    overlaps, valid = np.full((2, 200), 0.8), np.ones(200, bool)
    overlaps[:, 50:60] = overlaps[:, 100:140] = overlaps[:, 160:163] = overlaps[0, 20] = 0.1
    overlaps[:, 105:110], valid[105:110] = np.nan, False  # a loss goes on where the object is absent
    moments = {0: "start", 50: "lost for 10 frames", 100: "lost for 35 frames", 160: "lost for 3 frames"}
    assert worst_moments(overlaps, valid) == moments
    overlaps[:] = 0.8
    overlaps[0, [20, 90]] = 0.5, 0.4
    overlaps[1] = np.nan  # no result
    lowest = {10: "mean overlap 0.80", 20: "mean overlap 0.50", 90: "mean overlap 0.40"}
    assert worst_moments(overlaps, valid) == {0: "start"} | lowest
    assert worst_moments(overlaps, np.zeros(200, bool)) == {0: "start"}
    assert binned(np.array([1, np.nan, 0.5, np.nan, np.nan]), 2).tolist() == [1.0, 0.5]
    assert np.isnan(binned(np.array([1, np.nan]), 2)[1])


def test_results_of_some_frames_and_frames_that_cannot_be_read(tmp_path, sequences):
    tracker = score(tmp_path / "a", "t", sequences, [30, 40, 0])
    path = result_path(tmp_path / "a", sequences["ant"])
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    sequences["bee"].frames[1].write_bytes(b"damaged")
    tracker = score_source(tracker.sources[0], sequences)
    views = sequence_views([tracker], sequences, 3)
    hard = {each["name"]: each for each in views}
    assert hard["ant"]["pictures"]
    assert not hard["bee"]["pictures"]
    assert sequences["bee"].frames[1].name in hard["bee"]["problem"]
    page = save(tmp_path / "page.html", "set", [tracker], views)
    assert "No pictures: " in page.text
    assert len(page.all("table")) == 2
    assert not page.all("select")


def test_a_page_of_280_sequences_is_small(tmp_path):
    """Three trackers; noise in all frames, which no JPEG makes small."""
    noise = np.random.default_rng(0).integers(0, 255, (360, 640, 3), dtype=np.uint8)
    truth = np.concatenate((moving_boxes(700, 0.1), np.zeros((20, 4))))
    for index in range(280):
        write_boxes(tmp_path / "set" / f"s{index}" / "groundtruth.txt", truth)
    sequences = {each.name: each for each in load_dataset(f"folder:{tmp_path / 'set'}")}
    for each in sequences.values():
        each.__dict__["frames"] = [Path(str(number)) for number in range(len(truth))]
        each.__dict__["read_frame"] = lambda _: noise
    rng = np.random.default_rng(1)
    shifts = rng.uniform(0, 30, (3, 280)).tolist()
    trackers = [score(tmp_path / str(i), f"tracker {i}", sequences, shifts[i]) for i in range(3)]
    for i in range(3):
        for sequence in sequences.values():
            wild = truth + rng.uniform(0, 25, truth.shape) * (truth > 0)
            write_boxes(result_path(tmp_path / str(i), sequence), wild, "\t")
    views = sequence_views(trackers, sequences, 8)
    plots = [plot_trackers(kind, "set", trackers) for kind in PLOTS]
    page = save(tmp_path / "page.html", "set", trackers, views, plots=plots)
    assert sum(len(each["pictures"]) for each in views) == 32
    assert len(page.all("details")) == 280
    assert (tmp_path / "page.html").stat().st_size < 2e6


@pytest.mark.parametrize("width", [390, 1366])
def test_in_the_browser(tmp_path, sequences, browser, width):  # noqa: F811
    shifts = {"good": [1, 2, 3], "bad": [9, 1, 3]}
    trackers = [score(tmp_path / label, label, sequences, each) for label, each in shifts.items()]
    plots = [plot_trackers(kind, "set", trackers) for kind in PLOTS]
    save(tmp_path / "page.html", "set", trackers, sequence_views(trackers, sequences, 1), plots=plots)
    shown, wrong = browser.new_page(viewport={"width": width, "height": 800}), []
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on("console", lambda message: wrong.append(message.text))
    shown.goto((tmp_path / "page.html").as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    expect(shown.locator("#verdict")).to_contain_text("Of 3 sequences A is better in 1, B in 1; mean")
    rows = shown.locator(".bars li")
    assert [row.split("\n")[0] for row in rows.all_inner_texts()] == ["ant", "cow", "bee"]
    first = rows.first.inner_text()
    assert "+" in first
    shown.locator("select").first.select_option("bad")
    shown.locator("select").last.select_option("good")
    assert [row.split("\n")[0] for row in rows.all_inner_texts()] == ["bee", "cow", "ant"]
    assert first.replace("+", "").split()[1] in rows.last.inner_text()
    shown.locator("summary").first.click()
    expect(shown.locator("details svg[role=img]").first).to_be_visible()
    shown.close()
    assert wrong == []
