"""An evaluation as one HTML page that needs nothing beside it: it opens from disk and loads nothing.

It shows tables, plots, the overlap over time of every sequence, and frames of the worst moments of the hardest ones.
"""

import base64
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from datetime import datetime, timezone
from html import escape
from pathlib import Path

import cv2
import jinja2
import numpy as np
import pandas
from matplotlib.figure import Figure

from ... import __version__
from ...data.images import encode_jpeg
from ...data.sequence import Sequence
from ...utils.errors import UserError
from ...utils.files import write_text
from ..evaluation.result_files import read_note
from .plots import COLOURS, STYLES, plot_svg
from .scores import TrackerScores
from .tables import best_cells, format_score, score_notes, sequence_aucs

# The page stays one small file: pixels and bytes of a picture, and points of all plots together.
_LARGEST, _BYTES, _POINTS = (360, 270), 16_000, 80_000
_LOST = 0.2  # mean overlap of the trackers
_MOMENTS = 3  # a sequence, besides its start
_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def save_page(
    path: Path,
    title: str,
    trackers: SequenceOf[TrackerScores],
    tables: Mapping[str, pandas.DataFrame],
    plots: SequenceOf[Figure],
    views: SequenceOf[dict],
) -> None:
    """Fill `report.html` beside this file and write it; trackers are in the order of their colours.

    The tables are those of `lib.test.analysis.tables.all_tables`, `views` is from `sequence_views`.
    """
    labels = [tracker.label for tracker in trackers]
    runs = [(label, describe_runs(tracker)) for label, tracker in zip(labels, trackers, strict=True)]
    untimed = [label for label, parts in runs if any(facts.get("engine") == "opencv" for facts in parts)]
    tables = {**tables, "scores": tables["scores"].copy()}
    tables["scores"].loc[untimed, "FPS"] = "-"  # baselines serve to compare boxes
    swatches = [
        f'<svg class="swatch" viewBox="0 0 30 10" aria-hidden="true"><path class="k{i}" d="M1 5H29"/></svg>'
        for i in range(len(labels))
    ]
    marks = {label: swatch + escape(label) for label, swatch in zip(labels, swatches, strict=True)}
    page = _PAGES.get_template("report.html").render(
        title=title,
        made=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        version=__version__,
        notes=score_notes(trackers),
        runs=runs,
        tables={name: _html(table, int(name != "scores"), marks) for name, table in tables.items() if len(table)},
        plots=list(map(plot_svg, plots)),
        views=views,
        marks=marks,
        ranked=[(labels.index(label), label) for label in tables["scores"].index],
        dashes=[list(STYLES.values())[i % len(STYLES)] for i in range(len(labels))],
        colours=len(COLOURS),
        swatches=swatches,
        format_score=format_score,
    )
    write_text(path, page + "\n")


def describe_runs(tracker: TrackerScores) -> list[dict[str, str]]:
    """What the notes of a tracker's folders of results say, a dictionary of titles and texts a run; no empty ones."""
    runs = []
    for source, _ in tracker.runs:
        note = {} if source.foreign else read_note(source.folder)  # another program's file may have the name
        made_by, weights, engine = (note.pop(key, {}) for key in ("made_by", "weights", "engine"))
        known = {"results": source.folder, "SHA-256": weights, "engine": engine}
        known |= {key: made_by.pop(key, "") for key in ("weights_file", "device", "started", "command", "commit")}
        known["options"] = ", ".join(f"{key}={value}".replace(", ", ",") for key, value in note.items())
        known["versions"] = ", ".join(f"{name} {version}" for name, version in made_by.items() if version)
        runs.append({title.replace("_", " "): str(text) for title, text in known.items() if text})
    return runs


def _html(table: pandas.DataFrame, axis: int, marks: Mapping[str, str]) -> str:
    """A table of texts; rows (axis 0) or columns (axis 1) are trackers, shown by their `marks`. The best is bold."""
    best = best_cells(table, axis).to_numpy()
    table = table.rename(marks.__getitem__, axis=axis).rename(escape, axis=1 - axis)
    return table.mask(best, "<b>" + table + "</b>").to_html(escape=False, border=0, classes="sortable")


def sequence_views(
    trackers: SequenceOf[TrackerScores], sequences: Mapping[str, Sequence], pictured: int = 8
) -> list[dict]:
    """What the page shows of each sequence, lowest mean AUC first; `sequences` has all by their names in the scores.

    Each is its `name`, the `aucs` of all trackers in percent (nan without a result), its number of `frames`, and for
    its plot, which has so many `columns`, the `paths` of the trackers (SVG, overlap 1 at the top, 0 at 100), the path
    where the object is `absent`, and `marks`: columns of the pictures. The first `pictured` sequences have `pictures`
    of their worst moments, or a `problem`, the reason where there are none.
    """
    table = sequence_aucs(trackers)
    most = int(np.clip(_POINTS / table.size, 20, 200))
    views = []
    for name, *aucs in table.itertuples():
        overlaps, valid = _overlaps(trackers, name, len(sequences[name].truth))
        frames, columns = len(valid), min(most, len(valid))
        moments, pictures, problem = worst_moments(overlaps, valid) if len(views) < pictured else {}, [], ""
        try:
            pictures = [
                {"caption": f"frame {frame + 1}, {why}"} | _picture(trackers, sequences[name], name, frame)
                for frame, why in moments.items()
            ]
        except UserError as error:  # scores need no frames, so the frames may be missing
            problem = str(error)
        values = pandas.DataFrame([*overlaps, np.where(valid, 1, np.nan)]).T
        *curves, present = values.groupby(np.arange(frames) * columns // frames).mean().to_numpy().T
        views.append(
            {
                **{"name": name, "aucs": aucs, "frames": frames, "columns": columns},
                "paths": list(map(_path, curves)),
                "absent": "".join(f"M{column - 0.5} 0h1V100h-1Z" for column in np.flatnonzero(np.isnan(present))),
                "marks": [frame * columns // frames for frame in moments],
                **{"pictures": pictures, "problem": problem},
            }
        )
    return views


def _overlaps(trackers: SequenceOf[TrackerScores], name: str, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlaps (T, N) of a sequence, and the frames (N,) that count.

    Overlaps are means over a tracker's runs, and nan without a result or where no box is true.
    """
    overlaps, valid = np.full((len(trackers), frames), np.nan), np.ones(frames, bool)
    for index, tracker in enumerate(trackers):
        if name in tracker.table.index:
            errors = [compared[name][1] for _, compared in tracker.runs]
            valid = errors[0].valid
            overlaps[index] = np.where(valid, np.mean([each.overlap for each in errors], axis=0), np.nan)
    return overlaps, valid


def worst_moments(overlaps: np.ndarray, valid: np.ndarray) -> dict[int, str]:
    """Frames to show with captions, in their order: the start, the longest losses, else the lowest mean overlaps.

    `overlaps` (T, N) is of trackers, nan without a result; frames count that are `valid` (N,). A loss begins where the
    mean overlap falls below 0.2, and lasts until it does not. Moments are at least a twentieth of the sequence apart.
    """
    frames, captions, apart = np.flatnonzero(valid), {0: "start"}, max(1, len(valid) // 20)
    if not frames.size:
        return captions
    mean = overlaps[~np.isnan(overlaps).all(axis=1)][:, frames].mean(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mean < _LOST, [False])).astype(int)))
    losses = sorted(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True), key=lambda loss: loss[0] - loss[1])
    reasons = {begin: f"lost for {end - begin} frames" for begin, end in losses}
    for place in [*reasons, *np.argsort(mean, kind="stable").tolist()]:
        frame = int(frames[place])
        if len(captions) <= _MOMENTS and min(abs(frame - other) for other in captions) >= apart:
            captions[frame] = reasons.get(place, f"mean overlap {mean[place]:.2f}")
    return dict(sorted(captions.items()))


def _path(overlaps: np.ndarray) -> str:
    """The curve as a path, which breaks at nan; a lone column is a dot."""
    points = [None if np.isnan(each) else f"{column} {100 - round(100 * each)}" for column, each in enumerate(overlaps)]
    pairs = zip([None, *points], points, strict=False)
    return "".join(f"L{point}" if before else f"M{point}h0" for before, point in pairs if point)


def _picture(trackers: SequenceOf[TrackerScores], sequence: Sequence, name: str, frame: int) -> dict:
    """One frame, made small, as a `data:` address, and in its pixels each tracker's box by its index, and the truth.

    A box that is nan, far away or without area is left out; in the first frame also all but the true one.
    """
    image = sequence.read_frame(frame)
    scale = min(_LARGEST[0] / image.shape[1], _LARGEST[1] / image.shape[0], 1.0)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for quality in (80, 65, 50, 35, 20):
        data = encode_jpeg(image, quality)
        if len(data) <= _BYTES:
            break
    scored = [(index, t) for index, t in enumerate(trackers) if frame and name in t.table.index]
    boxes = [(index, compared[name][0]) for index, t in scored for _, compared in t.runs]
    shown = [
        (index, *(each[frame] * scale).round(1).tolist())
        for index, each in [*boxes, ("truth", sequence.truth)]
        if frame < len(each) and (each[frame, 2:] > 0).all() and np.abs(each[frame]).max() < 1e6
    ]
    address = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return {"address": address, "height": image.shape[0], "width": image.shape[1], "boxes": shown}
