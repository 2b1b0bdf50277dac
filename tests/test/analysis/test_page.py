"""The page: whole in one file, safe with any name, with pictures of the hardest sequences."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.data.registry import load_dataset
from lib.data.sequence import Sequence
from lib.test.analysis.page import hardest_sequences, save_page
from lib.test.analysis.plots import PLOTS, plot_trackers
from lib.test.analysis.scores import TrackerScores, score_source
from lib.test.analysis.selection import ResultSource
from lib.test.analysis.tables import all_tables, score_notes
from lib.test.evaluation.result_files import result_path
from tests.data.made_sets import write_results, write_sequence

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


def save(path: Path, title: str, trackers: list[TrackerScores], hard: list[dict], groups=(), plots=()) -> Page:
    tables = all_tables(trackers, dict(groups))
    save_page(path, title, [t.label for t in trackers], score_notes(trackers), tables, plots, hard)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def page(tmp_path, sequences) -> Page:
    trackers = [
        score(tmp_path / "a", EVIL, sequences, [1, 30, 0]),
        score(tmp_path / "b", "Sequences", sequences, [4, None, 2]),  # as a column is called
    ]
    hard = hardest_sequences(trackers, sequences, 2)
    plots = [plot_trackers(kind, EVIL, trackers) for kind in PLOTS]
    groups = {("attribute", EVIL): ["ant", "bee"]}
    return save(tmp_path / "page.html", f"{EVIL} set", trackers, hard, groups, plots)


def test_it_is_whole_and_loads_nothing(page):
    assert page.elements[0][0] == "html"
    assert not page.all("link")
    assert all("src" not in script for script in page.all("script"))
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert any("default-src 'none'" in meta.get("content", "") for meta in page.all("meta"))


def test_names_are_shown_as_they_are(page):
    assert len(page.all("script")) == 1
    assert page.text.count(EVIL) >= 5  # title, tables, legends, notes
    assert "Sequences: no result for 1 of 3 sequences: bee" in page.text


def test_tables_show_the_best_of_those_that_compare(page):
    assert [attributes["class"] for attributes in page.all("table")] == ["dataframe sortable"] * 3
    assert "2/3*" in page.text
    assert len(page.all("b")) == 2  # of the sequences that both trackers have; no total compares, nor does a group


def test_each_plot_has_a_line_a_tracker(page):
    plots = [attributes for attributes in page.all("svg") if attributes.get("class") == "plot"]
    styles = [path.get("style", "") for path in page.all("path")]
    assert len(plots) == 3
    for i in range(2):
        assert sum(f"stroke: var(--line-{i})" in style for style in styles) == 6  # the curve, and in the legend
    assert not any("#" in style for style in styles)  # a colour that the page does not change in the dark


def test_the_hardest_come_first_with_true_and_predicted_boxes(tmp_path, sequences):
    tracker = score(tmp_path / "a", "t", sequences, [1, 30, 12])
    hard = hardest_sequences([tracker], sequences, 2)
    assert [each["name"] for each in hard] == ["bee", "cow"]
    captions = list(hard[0]["pictures"])
    assert captions[:2] == ["frame 1, start", "frame 2, first loss: mean overlap 0.00"]
    data = base64.b64decode(hard[0]["pictures"][captions[1]].split(",")[1])
    picture = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    x, y, w, h = sequences["bee"].truth[1].round().astype(int)
    assert picture[y + h // 2, x].min() > 150  # white
    red, _, blue = picture[y + h // 2, x + 30].astype(int)
    assert blue - red > 60
    assert picture[y + h // 2, x + 30 + w // 2].max() < 40  # the frame itself, which is dark


def test_results_of_some_frames_and_frames_that_cannot_be_read(tmp_path, sequences):
    tracker = score(tmp_path / "a", "t", sequences, [30, 40, 0])
    path = result_path(tmp_path / "a", sequences["ant"])
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    sequences["bee"].frames[1].write_bytes(b"damaged")
    tracker = score_source(tracker.sources[0], sequences)
    hard = {each["name"]: each for each in hardest_sequences([tracker], sequences, 3)}
    assert hard["ant"]["pictures"]
    assert not hard["bee"]["pictures"]
    assert sequences["bee"].frames[1].name in hard["bee"]["problem"]
    page = save(tmp_path / "page.html", "set", [tracker], list(hard.values()))
    assert "No pictures: " in page.text
    assert len(page.all("table")) == 2
