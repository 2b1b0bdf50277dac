"""Success, precision and normalised precision plots, drawn by matplotlib: PNG, PDF, and SVG for the page."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from lib.test.analysis.metrics import DISTANCE_THRESHOLDS, NORM_DISTANCE_THRESHOLDS, OVERLAP_THRESHOLDS
from lib.test.analysis.scores import TrackerScores
from lib.utils.files import atomic_path


@dataclass(frozen=True)
class Line:
    """One curve: `values` (N,) in percent over the plot's thresholds (N,), `score` in percent for the legend."""

    label: str
    score: float
    values: np.ndarray


@dataclass(frozen=True)
class PlotKind:
    """One kind of plot. `curve` and `score` are keys of `TrackerScores`; `mark` is the threshold of the score."""

    title: str
    x_label: str
    y_label: str
    curve: str
    score: str
    score_label: str
    thresholds: np.ndarray
    mark: float | None


PLOTS = {
    "success": PlotKind(
        title="Success",
        x_label="Overlap threshold",
        y_label="Success rate (%)",
        curve="success_curve",
        score="auc",
        score_label="Area under the curve",
        thresholds=OVERLAP_THRESHOLDS,
        mark=None,
    ),
    "precision": PlotKind(
        title="Precision",
        x_label="Centre distance threshold (pixels)",
        y_label="Precision (%)",
        curve="precision_curve",
        score="precision",
        score_label="Precision at 20 pixels",
        thresholds=DISTANCE_THRESHOLDS,
        mark=20,
    ),
    "norm_precision": PlotKind(
        title="Normalised precision",
        x_label="Centre distance threshold (share of the box's sides)",
        y_label="Normalised precision (%)",
        curve="norm_precision_curve",
        score="norm_precision",
        score_label="Normalised precision at 0.20",
        thresholds=NORM_DISTANCE_THRESHOLDS,
        mark=0.2,
    ),
}

# Distinct for readers with any colour vision (after Okabe and Ito); line styles tell repeats apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_INK, _FAINT, _GRID = "#222222", "#888888", "#e4e4e4"
# The page's own colours in place of a plot's, so that its curves are readable on light and dark ground.
_PAGE_COLOURS = {colour.lower(): f"var(--line-{i})" for i, colour in enumerate(COLOURS)} | {
    _INK: "var(--ink)",
    _FAINT: "var(--quiet)",
    _GRID: "var(--edge)",
}
_FIGURE_SPACE = "\u2007"  # as wide as a digit, so that scores line up


def tracker_lines(kind: str, trackers: Sequence[TrackerScores]) -> list[Line]:
    """The curves of one kind of plot (a key of `PLOTS`), in the order of the trackers."""
    spec = PLOTS[kind]
    return [
        Line(
            f"{t.label} ({len(t.sequences)}/{t.expected} sequences)" if t.missing else t.label,
            t.scores[spec.score],
            100 * t.curves[spec.curve],
        )
        for t in trackers
    ]


def save_plot(path: Path, spec: PlotKind, title: str, lines: Sequence[Line]) -> None:
    """Draw curves with a title and a legend, and write `<path>.png` and `<path>.pdf`."""
    figure = _draw(spec, lines, (7, 5 + 0.21 * len(lines)))
    figure.axes[0].set_title(_escape(title), loc="left", fontsize=13, fontweight="bold", color=_INK, pad=12)
    figure.legend(loc="outside lower left", title=f"{spec.score_label}, best first", alignment="left", frameon=False)
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # a PDF's labels can be searched and edited
        for suffix in ("png", "pdf"):
            with atomic_path(path.with_suffix(f".{suffix}")) as temporary:
                figure.savefig(temporary, dpi=150)


def plot_svg(spec: PlotKind, lines: Sequence[Line]) -> str:
    """The curves alone as an `<svg>` element in the page's colours; line i has `var(--line-<i % 7>)`."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 12, "font.family": "sans-serif"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        _draw(spec, lines, (6, 4.2)).savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg class="plot" role="img" aria-label="{spec.title}"', 1)
    return re.sub(r"(?<=: )#[0-9a-f]{6}", lambda match: _PAGE_COLOURS.get(match[0], match[0]), svg)


def _draw(spec: PlotKind, lines: Sequence[Line], size: tuple[float, float]) -> Figure:
    """Curves from the best to the worst by the plot's own score; a tracker has its colour in every plot."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(color=_GRID, linewidth=0.8)
    if spec.mark is not None:
        axes.axvline(spec.mark, color=_FAINT, linewidth=1, linestyle=(0, (2, 3)))
    order = sorted(range(len(lines)), key=lambda i: -lines[i].score)
    for rank, i in enumerate(order):
        score = f"{lines[i].score:5.1f}".replace(" ", _FIGURE_SPACE)
        axes.plot(
            spec.thresholds,
            lines[i].values,
            color=COLOURS[i % len(COLOURS)],
            linestyle=_STYLES[i // len(COLOURS) % len(_STYLES)],
            linewidth=2.2,
            zorder=len(order) - rank + 2,
            clip_on=False,
            label=f"{score}  {_escape(lines[i].label)}",
        )
    axes.set(xlim=(spec.thresholds[0], spec.thresholds[-1]), ylim=(0, 100))
    axes.set_xlabel(spec.x_label, color=_INK)
    axes.set_ylabel(spec.y_label, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(color=_FAINT, labelcolor=_INK)
    return figure


def _escape(text: str) -> str:
    """Matplotlib takes the text between two dollar signs as a formula."""
    return text.replace("$", r"\$")
