"""Curves as SVG for the page: sharp at any size, and in the page's own colours, light or dark."""

from collections.abc import Sequence
from html import escape

import numpy as np

from lib.test.analysis.plots import COLOURS, Line, PlotKind

_WIDTH, _HEIGHT = 480, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 46
_DASHES = ("", "7 4", "9 4 2 4", "2 3")


def curves_svg(spec: PlotKind, lines: Sequence[Line]) -> str:
    """One plot as an `<svg>` element; line i has the style of `swatch_svg(i)`, the best line lies on top."""
    low, high = float(spec.thresholds[0]), float(spec.thresholds[-1])
    x = _LEFT + (np.asarray(spec.thresholds) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
    parts = [*_grid(low, high), *_labels(spec)]
    if spec.mark is not None:
        at = _LEFT + (spec.mark - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
        parts.append(f'<path class="mark" d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
    for i in sorted(range(len(lines)), key=lambda i: lines[i].score):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, _y(lines[i].values), strict=True))
        parts.append(
            f'<polyline class="line" {_style(i)} points="{points}"><title>{escape(lines[i].label)}</title></polyline>'
        )
    name = escape(spec.title, quote=True)
    return f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">{"".join(parts)}</svg>'


def swatch_svg(index: int) -> str:
    """A sample of a tracker's line, for legends."""
    return f'<svg class="swatch" viewBox="0 0 30 10" aria-hidden="true"><path {_style(index)} d="M1 5H29"/></svg>'


def _style(index: int) -> str:
    dashes = _DASHES[index // len(COLOURS) % len(_DASHES)]
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'fill="none" stroke="var(--line-{index % len(COLOURS)})" stroke-width="2.5"{dash}'


def _y(percent: np.ndarray | float) -> np.ndarray:
    return _HEIGHT - _BOTTOM - np.asarray(percent) / 100 * (_HEIGHT - _TOP - _BOTTOM)


def _grid(low: float, high: float) -> list[str]:
    parts, span = [], high - low
    for share in np.linspace(0, 1, 6):
        y, x = float(_y(100 * share)), _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        parts += [
            f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>',
            f'<path class="grid" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>',
            f'<text x="{_LEFT - 7}" y="{y + 5:.1f}" text-anchor="end">{100 * share:.0f}</text>',
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{low + share * span:g}</text>',
        ]
    return parts


def _labels(spec: PlotKind) -> list[str]:
    middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
    return [f'<text x="{middle}" y="{_HEIGHT - 7}" text-anchor="middle">{escape(spec.x_label)}</text>']
