"""An evaluation as one HTML page that needs nothing beside it: it opens from disk and loads nothing."""

import base64
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from html import escape
from pathlib import Path

import cv2
import jinja2
import numpy as np
import pandas
from matplotlib.figure import Figure

from ...data.sequence import Sequence
from ...utils.errors import UserError
from ...utils.files import write_text
from .plots import COLOURS, STYLES, plot_svg
from .scores import TrackerScores, compare_result
from .tables import format_score, sequence_aucs

_LARGEST = (400, 300)  # width and height of a picture
_LOST = 0.2  # mean overlap of the trackers
_TRUTH, _EDGE = (255, 255, 255), (16, 16, 16)


def save_page(
    path: Path,
    title: str,
    labels: SequenceOf[str],
    notes: SequenceOf[str],
    tables: Mapping[str, pandas.DataFrame],
    plots: SequenceOf[Figure],
    hard: SequenceOf[dict],
) -> None:
    """Fill `report.html` beside this file and write it; trackers' labels are in the order of their colours.

    The tables are those of `lib.test.analysis.tables.all_tables`, `hard` is from `hardest_sequences`.
    """
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    marks = {label: _swatch(i) + escape(label) for i, label in enumerate(labels)}
    page = pages.get_template("report.html").render(
        title=title,
        notes=notes,
        tables={name: _html(table, name == "scores", marks) for name, table in tables.items() if len(table)},
        plots=map(plot_svg, plots),
        hard=hard,
        marks=marks.values(),
        swatch=_swatch,
        format_score=format_score,
    )
    write_text(path, page + "\n")


def _swatch(index: int) -> str:
    """The line of a tracker in all plots, as a small picture."""
    colour, dashes = index % len(COLOURS), list(STYLES.values())[index // len(COLOURS) % len(STYLES)]
    line = f'<path d="M1 5H29" stroke="var(--line-{colour})" stroke-dasharray="{dashes}"/>'
    return f'<svg class="swatch" viewBox="0 0 30 10" aria-hidden="true">{line}</svg>'


def _html(table: pandas.DataFrame, trackers_are_rows: bool, marks: Mapping[str, str]) -> str:
    """A table of texts with `marks` for labels, and in bold the best tracker's number.

    A number with an asterisk, or in a row with one, does not compare with others.
    """
    numbers = table.apply(pandas.to_numeric, errors="coerce")
    if trackers_are_rows:
        numbers[table["Sequences"].str.endswith("*")] = np.nan
    else:
        numbers = numbers.T
    best = numbers.eq(numbers.max()) & (numbers.count() > 1)
    best = best if trackers_are_rows else best.T
    axis = 0 if trackers_are_rows else 1
    table = table.rename(marks.__getitem__, axis=axis).rename(escape, axis=1 - axis)
    cells = table.mask(best.to_numpy(), "<b>" + table + "</b>")
    return cells.to_html(escape=False, border=0, classes="sortable")


def hardest_sequences(trackers: SequenceOf[TrackerScores], sequences: Mapping[str, Sequence], count: int) -> list[dict]:
    """The `count` sequences of the lowest mean AUC, hardest first; `sequences` has all by their names in the scores.

    Each is its `name`, the `aucs` of all trackers in percent (nan without a result), `pictures` (caption to `data:`
    address), and a `problem`, the reason where there are none.
    """
    hard = []
    for name, *aucs in sequence_aucs(trackers).head(count).itertuples():
        pictures, problem = {}, ""
        try:
            pictures = _pictures(trackers, sequences[name], name)
        except UserError as error:  # scores need no frames, so the frames may be missing
            problem = str(error)
        hard.append({"name": name, "aucs": aucs, "pictures": pictures, "problem": problem})
    return hard


def _pictures(trackers: SequenceOf[TrackerScores], sequence: Sequence, name: str) -> dict[str, str]:
    """The start, the first loss where there is one, and later frames."""
    boxes: list[tuple[np.ndarray, tuple[int, ...]]] = []  # of a run, with the tracker's colour
    overlaps = []
    for index, tracker in enumerate(trackers):
        for source in tracker.sources if name in tracker.table.index else ():
            predicted, errors, _ = compare_result(source, sequence)
            boxes.append((predicted, tuple(bytes.fromhex(COLOURS[index % len(COLOURS)][1:]))))
            overlaps.append(errors.overlap)
    captions = _captions(np.mean(overlaps, axis=0).clip(min=0), errors.valid)
    return {f"frame {frame + 1}, {caption}": _picture(sequence, frame, boxes) for frame, caption in captions.items()}


def _captions(overlap: np.ndarray, valid: np.ndarray) -> dict[int, str]:
    """Frames to show with captions, from the mean overlap (N,) and the frames that have a true box (N,)."""
    frames = np.flatnonzero(valid) if valid.any() else np.arange(len(valid))
    lost = frames[overlap[frames] < _LOST]
    captions = {0: "start"}
    if lost.size:
        captions.setdefault(int(lost[0]), f"first loss: mean overlap {overlap[lost[0]]:.2f}")
        frames = frames[frames >= lost[0]]
    places = np.linspace(0, len(frames) - 1, 3 if lost.size else 4)[1:].round().astype(int)
    for frame in frames[places].tolist():
        captions.setdefault(frame, f"mean overlap {overlap[frame]:.2f}")
    return captions


def _picture(sequence: Sequence, frame: int, predicted: list[tuple[np.ndarray, tuple[int, ...]]]) -> str:
    """One frame, made small, with each tracker's box in its colour and the true one in white on top."""
    image = sequence.read_frame(frame)
    scale = min(_LARGEST[0] / image.shape[1], _LARGEST[1] / image.shape[0], 1.0)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for boxes, colour in [*predicted, (sequence.truth, _TRUTH)]:
        # The first box is given. One that is nan, far away or without area is not drawn.
        if frame < len(boxes) and (frame > 0 or colour is _TRUTH) and (boxes[frame, 2:] > 0).all():
            x1, y1, w, h = (boxes[frame] * scale).clip(-4000, 4000).round().astype(int).tolist()
            cv2.rectangle(image, (x1 - 2, y1 - 2), (x1 + w + 1, y1 + h + 1), _EDGE, 1)
            cv2.rectangle(image, (x1, y1), (x1 + w, y1 + h), colour, 2)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
