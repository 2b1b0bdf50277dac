"""Success, precision and normalised precision plots, drawn by matplotlib: PNG, PDF, and SVG for the page."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ...utils.files import atomic_path
from .scores import CURVES, TrackerScores
from .selection import Groups

# Distinct for readers with any colour vision (after Okabe and Ito); line styles differ, too, for prints in grey.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLES = {"-": "none", "--": "7 4", "-.": "9 4 2 4", ":": "2 3"}  # matplotlib's names, and SVG's dashes
_INK, _FAINT, _GRID = "#222222", "#888888", "#e4e4e4"
# The page's own colours in place of a plot's, so that its curves are readable on light and dark ground.
_PAGE_COLOURS = {colour: f"var(--line-{i})" for i, colour in enumerate(COLOURS)} | {
    _INK: "var(--ink)",
    _FAINT: "var(--quiet)",
    _GRID: "var(--edge)",
}
_SPOKES = 16  # of a radar that can be read
_FIGURE_SPACE = "\u2007"  # as wide as a digit, so that scores line up
_STYLE = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), _INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), _FAINT),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **{"axes.grid": True, "grid.color": _GRID, "axes.axisbelow": True},
    "text.parse_math": False,  # a label may hold dollar signs
    "font.size": 11,
    "pdf.fonttype": 42,  # labels can be searched and edited
    "svg.fonttype": "none",
}


class PlotKind(NamedTuple):
    """One kind of plot."""

    title: str
    x_label: str
    score: str  # key of `TrackerScores.scores`, for the legend
    score_label: str


# By names; with `_curve` after them they are keys of `TrackerScores.curves`.
PLOTS = {
    "success": PlotKind("Success", "Overlap threshold", "auc", "Area under the curve"),
    "precision": PlotKind("Precision", "Centre distance threshold (pixels)", "precision", "Precision at 20 pixels"),
    "norm_precision": PlotKind(
        *("Normalised precision", "Centre distance threshold (share of the box)"),
        *("norm_precision", "At a share of 0.20"),
    ),
}


def plot_trackers(kind: str, dataset: str, trackers: Sequence[TrackerScores]) -> Figure:
    """One kind of plot (a key of `PLOTS`) of trackers on a test set with this title."""
    spec, curve, lines = PLOTS[kind], f"{kind}_curve", []
    for t in trackers:
        label = f"{t.label} ({len(t.table)}/{t.expected} sequences)" if t.missing else t.label
        lines.append((label, t.scores[spec.score], 100 * t.curves[curve]))
    return draw_plot(spec, f"{spec.title} on {dataset}", CURVES[curve], lines)


@matplotlib.rc_context(_STYLE)
def draw_plot(
    spec: PlotKind, title: str, thresholds: np.ndarray, lines: Sequence[tuple[str, float, np.ndarray]]
) -> Figure:
    """Curves with a legend from the best to the worst; line i has the same colour in every plot.

    A line is its label, score in percent, and percent (N,) at the thresholds (N,).
    """
    figure = Figure(figsize=(5.6, 4.6 + 0.2 * len(lines)), layout="constrained")
    axes = figure.add_subplot(xlim=thresholds[[0, -1]], ylim=(0, 100), xlabel=spec.x_label, ylabel=f"{spec.title} (%)")
    axes.set_title(title, loc="left", fontweight="bold", pad=12)
    ranked = sorted(enumerate(lines), key=lambda item: -item[1][1])
    for rank, (i, (label, score, values)) in enumerate(ranked):
        label = f"{score:5.1f}  ".replace(" ", _FIGURE_SPACE) + label
        axes.plot(thresholds, values, zorder=len(lines) - rank + 2, clip_on=False, label=label, **_look(i))
    figure.legend(loc="outside lower left", title=f"{spec.score_label}, best first", alignment="left")
    return figure


@matplotlib.rc_context(_STYLE)
def plot_attributes(dataset: str, trackers: Sequence[TrackerScores], groups: Groups) -> Figure | None:
    """Radar of the AUC by attribute, of the 16 attributes with most sequences; None where there are less than 3.

    The middle is not 0, so that trackers differ visibly: circles are labelled.
    """
    sizes = {name: len(members) for (kind, name), members in groups.items() if kind == "attribute"}
    names = sorted(sorted(sizes, key=lambda name: -sizes[name])[:_SPOKES])
    aucs = np.array([[t.only(groups["attribute", name]).scores["auc"] for name in names] for t in trackers])
    if len(names) < 3 or np.isnan(aucs).all():
        return None
    angles = np.linspace(0, 2 * np.pi, len(names) + 1)
    figure = Figure(figsize=(5.6, 5.4 + 0.2 * len(trackers)), layout="constrained")
    axes = figure.add_subplot(projection="polar", theta_offset=np.pi / 2, theta_direction=-1)
    axes.set_title(f"AUC by attribute on {dataset}", loc="left", fontweight="bold", pad=30)
    lowest, highest = max(0, np.floor(np.nanmin(aucs) / 10 - 0.5) * 10), np.ceil(np.nanmax(aucs) / 10 + 1e-9) * 10
    axes.set_ylim(lowest, highest)
    axes.set_yticks(np.arange(lowest, highest, 10 if highest - lowest < 60 else 20)[1:])
    axes.set_rlabel_position(180 / len(names))  # between two attributes
    for name, angle in zip(names, angles, strict=False):  # beside the circle, not across it
        side = "center" if abs(np.sin(angle)) < 0.1 else "left" if angle < np.pi else "right"
        place = angle, highest + 0.07 * (highest - lowest)
        axes.text(*place, f"{name[:18]} ({sizes[name]})", ha=side, va="center")
    axes.set_xticks(angles[:-1], [])
    for i, (tracker, row) in enumerate(zip(trackers, aucs, strict=True)):
        axes.plot(angles, [*row, row[0]], label=tracker.label, **_look(i))
    figure.legend(loc="outside lower left", title="AUC (%), sequences in brackets", alignment="left")
    return figure


def _look(index: int) -> dict[str, object]:
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": list(STYLES)[index % len(STYLES)], "linewidth": 2.2}


@matplotlib.rc_context(_STYLE)
def save_plot(path: Path, figure: Figure) -> None:
    """Write `<path>.png` and `<path>.pdf`."""
    for suffix in ("png", "pdf"):
        with atomic_path(path.with_suffix(f".{suffix}")) as temporary:
            figure.savefig(temporary, dpi=200)


@matplotlib.rc_context(_STYLE)
def plot_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element in the page's colours; line i has `var(--line-<i % 7>)`."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", '<svg class="plot" role="img"', 1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r"(?<=: )#[0-9a-f]{6}", lambda match: _PAGE_COLOURS.get(match[0], match[0]), svg)
