"""The page: whole in one file, safe with any name, with pictures of the hardest sequences."""

import json
import re
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

from lib.data.registry import load_dataset
from lib.data.sequence import Sequence
from lib.test.analysis.page import save_page, sequence_views, worst_moments
from lib.test.analysis.plots import PLOTS, plot_attributes, plot_trackers
from lib.test.analysis.scores import TrackerScores, score_source
from lib.test.analysis.selection import ResultSource
from lib.test.analysis.tables import all_tables
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


def save(path: Path, title: str, trackers: list[TrackerScores], views: list[dict], groups=(), plots=()) -> str:
    """Write a page; gives its HTML."""
    save_page(path, title, trackers, all_tables(trackers, dict(groups)), plots, views)
    return path.read_text(encoding="utf-8")


def test_it_is_whole_and_shows_names_numbers_plots_and_runs(tmp_path, sequences):
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
    assert plot_attributes("set", [], {("attribute", "one"): ["ant"]}) is None
    views = sequence_views(trackers, sequences, 2)
    page = save(tmp_path / "page.html", f"{EVIL} set", trackers, views, groups, plots)

    assert page.startswith("<!DOCTYPE html>")
    assert "default-src 'none'" in page
    assert "<link" not in page
    assert re.findall("<script[^>]*>", page) == ["<script>"]
    images = re.findall('<image href="([^"]*)"', page)
    assert images
    assert all(image.startswith("data:image/jpeg;base64,") for image in images)

    text = unescape(re.sub(r"(?s)<(script|style)\b.*?</\1>|<[^>]*>", "", page))  # what a reader sees
    assert text.count(EVIL) >= 5  # title, tables, legends, notes
    assert "Sequences: no result for 1 of 3 sequences: bee" in text
    assert page.count('class="dataframe sortable"') == 3
    assert "2/3*" in text
    assert page.count("<b>") == 2  # of the sequences that both trackers have; no total compares, nor does a group

    assert page.count('<svg class="plot"') == 4
    styles = re.findall('<path[^>]* style="([^"]*)"', page)
    lines = [[style for style in styles if f"stroke: var(--line-{i})" in style] for i in range(2)]
    assert [len(each) for each in lines] == [8, 8]  # the curve, and in the legend
    assert ["stroke-dasharray" in style for each in lines for style in each] == [False] * 8 + [True] * 8
    assert not any("#" in style for style in styles)  # a colour that the page does not change in the dark
    for fact in ("torch bf16", "cuda:1", "/w/a.pth.tar", "ab" * 32, "2026-01-02 03:04", "TEST.WINDOW=0.4", "torch 9.9"):
        assert fact in text
    assert [line.strip() for line in text.splitlines()].count("10.0") == 1  # FPS of the network, not the baseline


def test_the_hardest_come_first_with_overlaps_boxes_and_the_worst_moments(tmp_path, sequences):
    tracker = score(tmp_path / "a", "t", sequences, [1, 30, 12])
    views = sequence_views([tracker], sequences, 2)
    assert [each["name"] for each in views] == ["bee", "cow", "ant"]
    bee, ant = views[0], views[2]
    assert (bee["frames"], bee["columns"], bee["absent"]) == (10, 10, "")
    assert bee["paths"] == ["M0 0h0" + "".join(f"L{i} 100" for i in range(1, 10))]
    assert ant["pictures"] == ant["marks"] == []
    captions = [picture["caption"] for picture in bee["pictures"]]
    assert captions[:2] == ["frame 1, start", "frame 2, lost for 9 frames"]
    assert bee["marks"][:2] == [0, 1]
    start, second = bee["pictures"][:2]
    assert start["boxes"] == [("truth", *sequences["bee"].truth[0].round(1))]
    assert second["boxes"] == [(0, 43, 31, 19, 16), ("truth", 13, 31, 19.9, 16)]
    assert (second["width"], second["height"]) == (128, 96)

    overlaps, valid = np.full((2, 200), 0.8), np.ones(200, bool)
    overlaps[:, 50:60] = overlaps[:, 100:140] = overlaps[:, 160:163] = overlaps[0, 20] = 0.1
    overlaps[:, 105:110], valid[105:110] = np.nan, False  # a loss goes on where the object is absent
    moments = {0: "start", 50: "lost for 10 frames", 100: "lost for 35 frames", 160: "lost for 3 frames"}
    assert worst_moments(overlaps, valid) == moments
    overlaps[:] = 0.8
    overlaps[0, [20, 21, 90]] = 0.4, 0.3, 0.5
    overlaps[1] = np.nan  # no result
    lowest = {10: "mean overlap 0.80", 21: "mean overlap 0.30", 90: "mean overlap 0.50"}
    assert worst_moments(overlaps, valid) == {0: "start"} | lowest
    assert worst_moments(overlaps, np.zeros(200, bool)) == {0: "start"}


def test_results_of_some_frames_and_frames_that_cannot_be_read(tmp_path, sequences):
    tracker = score(tmp_path / "a", "t", sequences, [30, 40, 0])
    path = result_path(tmp_path / "a", sequences["ant"])
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    sequences["bee"].frames[1].write_bytes(b"damaged")
    sequences["cow"].truth[2] = np.nan
    tracker = score_source(tracker.runs[0][0], sequences)
    views = sequence_views([tracker], sequences, 3)
    hard = {each["name"]: each for each in views}
    assert hard["ant"]["pictures"]
    assert not hard["bee"]["pictures"]
    assert sequences["bee"].frames[1].name in hard["bee"]["problem"]
    assert hard["cow"]["absent"] == "M1.5 0h1V100h-1Z"
    assert hard["cow"]["paths"] == ["M0 0h0L1 5M3 4h0"]
    page = save(tmp_path / "page.html", "set", [tracker], views)
    assert "No pictures: " in page
    assert (page.count("<table"), page.count("<select")) == (2, 0)


def test_a_page_of_280_sequences_is_small(tmp_path):
    """Three trackers that jump about, and frames full of detail."""
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    image, truth = cv2.resize(noise, (640, 360)), np.concatenate((moving_boxes(110, 0.1), np.zeros((10, 4))))
    rng, sequences = np.random.default_rng(1), {}
    for name in map(str, range(280)):
        write_boxes(tmp_path / "set" / name / "groundtruth.txt", truth)
        sequences[name] = Sequence(name, "folder", tmp_path, tmp_path / "set" / name / "groundtruth.txt")
        sequences[name].__dict__.update(frames=[Path()] * len(truth), read_frame=lambda _: image)
        for tracker in "abc":
            wild = truth + rng.uniform(0, 25, truth.shape) * (truth > 0)
            write_boxes(result_path(tmp_path / tracker, sequences[name]), wild, "\t")
    trackers = [score_source(ResultSource(name, tmp_path / name, name, tmp_path), sequences) for name in "abc"]
    views = sequence_views(trackers, sequences, 8)
    plots = [plot_trackers(kind, "set", trackers) for kind in PLOTS]
    page = save(tmp_path / "page.html", "set", trackers, views, plots=plots)
    assert sum(len(each["pictures"]) for each in views) == 32
    assert page.count("<details") == 280
    assert (tmp_path / "page.html").stat().st_size < 2e6


def test_in_the_browser(tmp_path, sequences, browser):  # noqa: F811
    shifts = {"good": [1, 2, 3], "bad": [9, 1, 3]}
    trackers = [score(tmp_path / label, label, sequences, each) for label, each in shifts.items()]
    plots = [plot_trackers(kind, "set", trackers) for kind in PLOTS]
    save(tmp_path / "page.html", "set", trackers, sequence_views(trackers, sequences, 1), plots=plots)
    shown, wrong = browser.new_page(), []
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on("console", lambda message: wrong.append(message.text))
    shown.goto((tmp_path / "page.html").as_uri())
    for width in (1366, 390):
        shown.set_viewport_size({"width": width, "height": 800})
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
