"""Reports of GOT-10k's server, as its site offers them for download: a table and success plots."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.test.analysis.plots import PLOTS, draw_plot, save_plot
from lib.test.analysis.tables import format_score
from lib.utils.errors import UserError
from lib.utils.text import read_text, ruled_table
from lib.utils.workspace import workspace

_POINTS = np.linspace(0, 1, 101)  # overlaps


def plot_got_success(paths: Sequence[Path], output_dir: Path | None = None) -> None:
    """Print AO, SR0.50 and SR0.75 and plot the success curves of server reports, `got_success.png` and `.pdf`.

    Args:
        paths: JSON files, `{tracker: {"overall": {"ao", "succ_curve", …}, "seq_wise": …}}`.
        output_dir: folder for the plots; one under the workspace's plots by default.

    Raises:
        UserError: a file is missing or is no such report, or two are of one tracker.
    """
    lines, rows = {}, []
    for tracker, ao, curve, fps in (report for path in paths for report in read_got_report(path)):
        if tracker in lines:
            raise UserError(f"two reports are of a tracker called {tracker!r}; rename it in one of the files")
        lines[tracker] = (tracker, ao, curve)
        rows.append([tracker, *map(format_score, (ao, *np.interp([0.5, 0.75], _POINTS, curve), fps))])
    rows.sort(key=lambda row: -lines[row[0]][1])
    print(ruled_table([["Tracker", "AO", "SR0.50", "SR0.75", "FPS"], *rows]))

    output_dir = output_dir or workspace("test").plots_dir / "got10k_reports"
    spec = PLOTS["success"]._replace(score_label="Average overlap")
    save_plot(output_dir / "got_success", draw_plot(spec, "Success on GOT-10k", _POINTS, list(lines.values())))
    print(f"plots: {output_dir}")


def read_got_report(path: Path) -> list[tuple[str, float, np.ndarray, float]]:
    """The trackers of a report file: name, AO in percent, success curve (101,) in percent over overlaps, FPS or nan.

    The numbers lie under `overall`, or directly under the tracker's name in old reports.

    Raises:
        UserError: the file is missing or is no report; the message names the fault.
    """
    try:
        content = json.loads(read_text(path))
        reports = []
        for tracker, values in content.items():
            overall = values.get("overall", values)
            ao, curve = float(overall["ao"]), np.array(overall["succ_curve"], dtype=np.float64)
            if curve.ndim != 1 or len(curve) < 2 or not all(0 <= value <= 1 for value in (ao, *curve)):
                raise UserError(f"{path}: 'ao' and 'succ_curve' of {tracker!r} are not numbers from 0 to 1")
            curve = np.interp(_POINTS, np.linspace(0, 1, len(curve)), curve)
            speed = float(overall.get("speed_fps") or math.nan)
            reports.append((tracker, 100 * ao, 100 * curve, speed if speed > 0 else math.nan))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        need = "expected JSON with numbers 'ao' and 'succ_curve' under 'overall' of each tracker"
        raise UserError(f"{path} is not a report of GOT-10k: {need}") from error
    if not reports:
        raise UserError(f"{path} is a report of GOT-10k without a tracker")
    return reports
