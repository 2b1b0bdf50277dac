"""Reports of GOT-10k's server, as its site gives them for download: read, tabled and plotted."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.test.analysis.plots import PLOTS, Line, save_lines
from lib.utils.errors import UserError
from lib.utils.text import ruled_table
from lib.utils.workspace import workspace


@dataclass(frozen=True)
class ServerReport:
    """What a report says of one tracker.

    Attributes:
        tracker: its name on the server.
        ao: average overlap in percent.
        success_curve: (N,) in percent, over N equally spaced overlaps from 0 to 1.
        fps: as the server took it from the time files, nan where it has none.
    """

    tracker: str
    ao: float
    success_curve: np.ndarray
    fps: float

    def success_rate(self, overlap: float) -> float:
        """Percent of frames above an overlap in [0, 1]."""
        return float(np.interp(overlap, _thresholds(self.success_curve), self.success_curve))


def plot_got_success(reports: Sequence[Path], output_dir: Path | None = None) -> list[ServerReport]:
    """Print AO, SR0.50 and SR0.75 and plot the success curves of server reports, `got_success.png` and `.pdf`.

    Args:
        reports: JSON files, `{tracker: {"overall": {"ao", "succ_curve", …}, "seq_wise": …}}`.
        output_dir: where the plots go; a folder under the workspace's plots by default.

    Raises:
        UserError: a file is missing or is no such report, or two are of one tracker.
    """
    read = [report for path in reports for report in read_got_report(path)]
    names = [report.tracker for report in read]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two reports are of a tracker called {name!r}; rename it in one of the files")
    rows = [["Tracker", "AO", "SR0.50", "SR0.75", "FPS"]]
    for report in sorted(read, key=lambda report: -report.ao):
        numbers = (report.ao, report.success_rate(0.5), report.success_rate(0.75), report.fps)
        rows.append([report.tracker, *("-" if math.isnan(number) else f"{number:.1f}" for number in numbers)])
    print(ruled_table(rows))

    output_dir = output_dir or workspace("test").plots_dir / "got10k_reports"
    count = max(len(report.success_curve) for report in read)
    overlaps = np.linspace(0, 1, count)
    spec = replace(PLOTS["success"], score="ao", score_label="Average overlap", thresholds=overlaps)
    lines = [Line(r.tracker, r.ao, np.interp(overlaps, _thresholds(r.success_curve), r.success_curve)) for r in read]
    for suffix in ("png", "pdf"):
        save_lines(output_dir / f"got_success.{suffix}", spec, "Success on GOT-10k", lines)
    print(f"plots: {output_dir}")
    return read


def read_got_report(path: Path) -> list[ServerReport]:
    """The trackers of a report file, at least one.

    Raises:
        UserError: the file is missing or is no report; the message says what is wrong.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # of the encoding, too
        raise UserError(f"{path} is not JSON: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path} is not a report of GOT-10k: it is nested too deeply") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} is not a report of GOT-10k: expected an object with a tracker's name")
    return [_report(path, name, values) for name, values in content.items()]


def _report(path: Path, tracker: str, values: object) -> ServerReport:
    """One tracker's part of a report: the numbers under `overall`, or directly under the name in old reports."""
    overall = values.get("overall", values) if isinstance(values, dict) else None
    if not isinstance(overall, dict) or "ao" not in overall or "succ_curve" not in overall:
        raise UserError(f"{path}: {tracker!r} has no 'ao' and 'succ_curve' under 'overall'; is it a GOT-10k report?")
    ao, curve = overall["ao"], overall["succ_curve"]
    if not isinstance(curve, list) or len(curve) < 2 or not all(map(_is_share, [ao, *curve])):
        raise UserError(f"{path}: 'ao' and 'succ_curve' of {tracker!r} are not numbers from 0 to 1")
    speed = overall.get("speed_fps")
    fps = float(speed) if isinstance(speed, int | float) and 0 < speed < 1e9 else math.nan
    return ServerReport(tracker, 100 * ao, 100 * np.array(curve, dtype=np.float64), fps)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _thresholds(curve: np.ndarray) -> np.ndarray:
    return np.linspace(0, 1, len(curve))
