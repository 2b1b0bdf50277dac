"""Reports of GOT-10k's server, as its site offers them for download: a table and success plots."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.test.analysis.plots import PLOTS, Line, save_plot
from lib.test.analysis.tables import format_score
from lib.utils.errors import UserError
from lib.utils.text import read_text, ruled_table
from lib.utils.workspace import workspace


@dataclass(frozen=True)
class ServerReport:
    """One tracker's part of a report.

    Attributes:
        tracker: its name on the server.
        ao: average overlap in percent.
        success_curve: (N,) in percent, over N equally spaced overlaps from 0 to 1.
        fps: as the server computed it from the time files, nan without them.
    """

    tracker: str
    ao: float
    success_curve: np.ndarray
    fps: float

    def success_rate(self, overlap: float | np.ndarray) -> np.ndarray:
        """Percent of frames above overlaps in [0, 1]."""
        return np.interp(overlap, np.linspace(0, 1, len(self.success_curve)), self.success_curve)


def plot_got_success(paths: Sequence[Path], output_dir: Path | None = None) -> list[ServerReport]:
    """Print AO, SR0.50 and SR0.75 and plot the success curves of server reports, `got_success.png` and `.pdf`.

    Args:
        paths: JSON files, `{tracker: {"overall": {"ao", "succ_curve", …}, "seq_wise": …}}`.
        output_dir: folder for the plots; one under the workspace's plots by default.

    Raises:
        UserError: a file is missing or is no such report, or two are of one tracker.
    """
    reports = [report for path in paths for report in read_got_report(path)]
    names = [report.tracker for report in reports]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two reports are of a tracker called {name!r}; rename it in one of the files")
    rows = [["Tracker", "AO", "SR0.50", "SR0.75", "FPS"]]
    for report in sorted(reports, key=lambda report: -report.ao):
        numbers = (report.ao, *report.success_rate(np.array([0.5, 0.75])), report.fps)
        rows.append([report.tracker, *map(format_score, numbers)])
    print(ruled_table(rows))

    output_dir = output_dir or workspace("test").plots_dir / "got10k_reports"
    overlaps = np.linspace(0, 1, max(len(report.success_curve) for report in reports))
    spec = replace(PLOTS["success"], score_label="Average overlap", thresholds=overlaps)
    lines = [Line(report.tracker, report.ao, report.success_rate(overlaps)) for report in reports]
    save_plot(output_dir / "got_success", spec, "Success on GOT-10k", lines)
    print(f"plots: {output_dir}")
    return reports


def read_got_report(path: Path) -> list[ServerReport]:
    """The trackers of a report file, at least one.

    Raises:
        UserError: the file is missing or is no report; the message names the fault.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} is not a report of GOT-10k: expected an object with a tracker's name")
    return [_parse_report(path, name, values) for name, values in content.items()]


def _parse_report(path: Path, tracker: str, values: object) -> ServerReport:
    """The numbers lie under `overall`, or directly under the tracker's name in old reports."""
    overall = values.get("overall", values) if isinstance(values, dict) else None
    if not isinstance(overall, dict) or "ao" not in overall or "succ_curve" not in overall:
        raise UserError(f"{path}: {tracker!r} has no 'ao' and 'succ_curve' under 'overall'; is it a GOT-10k report?")
    try:
        ao, curve = float(overall["ao"]), np.array(overall["succ_curve"], dtype=np.float64)
    except (TypeError, ValueError):
        ao, curve = math.nan, np.empty(0)
    if curve.ndim != 1 or len(curve) < 2 or not all(0 <= value <= 1 for value in (ao, *curve)):
        raise UserError(f"{path}: 'ao' and 'succ_curve' of {tracker!r} are not numbers from 0 to 1")
    speed = overall.get("speed_fps")
    fps = float(speed) if isinstance(speed, int | float) and 0 < speed < 1e9 else math.nan
    return ServerReport(tracker, 100 * ao, 100 * curve, fps)
