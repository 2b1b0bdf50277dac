"""Success, precision and normalised precision plots as pictures: PNG, PDF or whatever the file's ending says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lib.test.analysis.metrics import DISTANCE_THRESHOLDS, NORM_DISTANCE_THRESHOLDS, OVERLAP_THRESHOLDS
from lib.test.analysis.results import TrackerScores
from lib.utils.files import atomic_path


@dataclass(frozen=True)
class Line:
    """One curve: `values` (N,) in percent over the plot's thresholds (N,), `score` in percent for the legend."""

    label: str
    score: float
    values: np.ndarray


@dataclass(frozen=True)
class PlotKind:
    """What one plot shows. `score` is the number in the legend; `mark`, where it is read off the curve, if it is."""

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
_FIGURE_SPACE = "\u2007"  # as wide as a digit, so that scores line up
_INK, _FAINT = "#222222", "#888888"
_TEXT_AS_TEXT = {"pdf.fonttype": 42}  # so that a PDF's labels can be searched and edited


def tracker_lines(kind: str, trackers: Sequence[TrackerScores]) -> list[Line]:
    """The curves of one kind of plot (a key of `PLOTS`), in the order of the trackers."""
    spec = PLOTS[kind]
    return [
        Line(
            f"{tracker.label} ({len(tracker.sequences)}/{tracker.expected} sequences)"
            if tracker.missing
            else tracker.label,
            tracker.scores[spec.score],
            100 * tracker.curves[spec.curve],
        )
        for tracker in trackers
    ]


def save_plot(path: Path, kind: str, dataset: str, trackers: Sequence[TrackerScores]) -> None:
    """Draw one kind of plot (a key of `PLOTS`) with a line a tracker and write it to `path`."""
    save_lines(path, PLOTS[kind], f"{PLOTS[kind].title} on {dataset}", tracker_lines(kind, trackers))


def save_lines(path: Path, spec: PlotKind, title: str, lines: Sequence[Line]) -> None:
    """Draw curves over `spec.thresholds` and write them to `path`; its ending chooses the format.

    The legend goes from the best to the worst by the plot's own score. A tracker keeps its colour
    in every plot of one list.
    """
    figure = Figure(figsize=(7, 5 + 0.21 * len(lines)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(color="#e4e4e4", linewidth=0.8)
    if spec.mark is not None:
        axes.axvline(spec.mark, color=_FAINT, linewidth=1, linestyle=(0, (2, 3)))

    order = sorted(range(len(lines)), key=lambda i: -lines[i].score)
    for rank, i in enumerate(order):
        axes.plot(
            spec.thresholds,
            lines[i].values,
            color=COLOURS[i % len(COLOURS)],
            linestyle=_STYLES[i // len(COLOURS) % len(_STYLES)],
            linewidth=2.2,
            zorder=len(order) - rank + 2,
            clip_on=False,
            label=f"{lines[i].score:5.1f}".replace(" ", _FIGURE_SPACE) + f"  {_plain(lines[i].label)}",
        )
    axes.set(xlim=(spec.thresholds[0], spec.thresholds[-1]), ylim=(0, 100), xlabel=spec.x_label, ylabel=spec.y_label)
    axes.set_title(_plain(title), loc="left", fontsize=13, fontweight="bold", color=_INK, pad=12)
    _quieten(axes)
    figure.legend(
        loc="outside lower left",
        title=f"{spec.score_label}, best first",
        alignment="left",
        frameon=False,
    )
    with atomic_path(path) as temporary, matplotlib.rc_context(_TEXT_AS_TEXT):
        figure.savefig(temporary)


def _plain(text: str) -> str:
    """Names are no formulas: matplotlib sets what stands between two dollar signs as one."""
    return text.replace("$", r"\$")


def _quieten(axes: Axes) -> None:
    """Keep the frame and the ticks in the background of the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(color=_FAINT, labelcolor=_INK)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
