"""Success, precision and normalised precision plots, drawn by matplotlib: PNG, PDF, and SVG for the page."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from lib.test.analysis.metrics import DISTANCE_THRESHOLDS, NORM_DISTANCE_THRESHOLDS, OVERLAP_THRESHOLDS
from lib.test.analysis.scores import TrackerScores
from lib.utils.files import atomic_path

# Distinct for readers with any colour vision (after Okabe and Ito); line styles tell repeats apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLES = {"-": "none", "--": "7 4", "-.": "9 4 2 4", ":": "2 3"}  # matplotlib's names, and SVG's dashes
_INK, _FAINT, _GRID = "#222222", "#888888", "#e4e4e4"
# The page's own colours in place of a plot's, so that its curves are readable on light and dark ground.
_PAGE_COLOURS = {colour: f"var(--line-{i})" for i, colour in enumerate(COLOURS)} | {
    _INK: "var(--ink)",
    _FAINT: "var(--quiet)",
    _GRID: "var(--edge)",
}
_FIGURE_SPACE = "\u2007"  # as wide as a digit, so that scores line up


class PlotKind(NamedTuple):
    """One kind of plot: the score in its legend is read at the threshold `mark`, or is the mean of the curve."""

    title: str
    x_label: str
    score: str  # key of `TrackerScores.scores`
    score_label: str
    thresholds: np.ndarray
    mark: float | None


# By names; with `_curve` after them they are keys of `TrackerScores.curves`.
_DISTANCE = "Centre distance threshold"
PLOTS = {
    "success": PlotKind("Success", "Overlap threshold", "auc", "Area under the curve", OVERLAP_THRESHOLDS, None),
    "precision": PlotKind(
        *("Precision", f"{_DISTANCE} (pixels)"),
        *("precision", "Precision at 20 pixels", DISTANCE_THRESHOLDS, 20),
    ),
    "norm_precision": PlotKind(
        *("Normalised precision", f"{_DISTANCE} (share of the box's sides)"),
        *("norm_precision", "Normalised precision at 0.20", NORM_DISTANCE_THRESHOLDS, 0.2),
    ),
}


def plot_trackers(kind: str, dataset: str, trackers: Sequence[TrackerScores]) -> Figure:
    """One kind of plot (a key of `PLOTS`) of trackers on a test set with this title."""
    spec, lines = PLOTS[kind], []
    for t in trackers:
        label = f"{t.label} ({len(t.table)}/{t.expected} sequences)" if t.missing else t.label
        lines.append((label, t.scores[spec.score], 100 * t.curves[f"{kind}_curve"]))
    return draw_plot(spec, f"{spec.title} on {dataset}", lines)


def draw_plot(spec: PlotKind, title: str, lines: Sequence[tuple[str, float, np.ndarray]]) -> Figure:
    """Curves from the best to the worst by the plot's own score; line i has the same colour in every plot.

    Args:
        lines: label, score in percent, and percent (N,) at the plot's thresholds (N,).
    """
    figure = Figure(figsize=(5.6, 4.6 + 0.2 * len(lines)), layout="constrained")
    axes = figure.add_subplot(xlim=(spec.thresholds[0], spec.thresholds[-1]), ylim=(0, 100), axisbelow=True)
    axes.grid(color=_GRID, linewidth=0.8)
    if spec.mark is not None:
        axes.axvline(spec.mark, color=_FAINT, linewidth=1, linestyle=(0, (2, 3)))
    order = sorted(range(len(lines)), key=lambda i: -lines[i][1])
    for rank, i in enumerate(order):
        label, score, values = lines[i]
        axes.plot(
            spec.thresholds,
            values,
            color=COLOURS[i % len(COLOURS)],
            linestyle=list(STYLES)[i // len(COLOURS) % len(STYLES)],
            linewidth=2.2,
            zorder=len(order) - rank + 2,
            clip_on=False,
            label=_escape(f"{score:5.1f}  ".replace(" ", _FIGURE_SPACE) + label),
        )
    axes.set_xlabel(spec.x_label, color=_INK)
    axes.set_ylabel(f"{spec.title} (%)", color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(color=_FAINT, labelcolor=_INK)
    axes.set_title(_escape(title), loc="left", fontsize=13, fontweight="bold", color=_INK, pad=12)
    legend = figure.legend(loc="outside lower left", alignment="left", frameon=False, labelcolor=_INK)
    legend.set_title(f"{spec.score_label}, best first")
    legend.get_title().set_color(_INK)
    return figure


def save_plot(path: Path, figure: Figure) -> None:
    """Write `<path>.png` and `<path>.pdf`."""
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # a PDF's labels can be searched and edited
        for suffix in ("png", "pdf"):
            with atomic_path(path.with_suffix(f".{suffix}")) as temporary:
                figure.savefig(temporary, dpi=200)


def plot_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element in the page's colours; line i has `var(--line-<i % 7>)`."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", '<svg class="plot" role="img"', 1)
    return re.sub(r"(?<=: )#[0-9a-f]{6}", lambda match: _PAGE_COLOURS.get(match[0], match[0]), svg)


def _escape(text: str) -> str:
    """Matplotlib takes the text between two dollar signs as a formula."""
    return text.replace("$", r"\$")
