"""Reports of GOT-10k's server."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.test.analysis.report import plot_got_success, read_got_report
from lib.utils.errors import UserError


def write_report(path: Path, tracker: str, ao: float, speed: float = 31.5, **changes: object) -> Path:
    """A report whose success curve falls evenly from 1 at overlap 0 to 0 at 2·ao."""
    curve = np.clip(1 - np.linspace(0, 1, 101) / (2 * ao), 0, 1).tolist()
    overall = {"ao": ao, "sr": 0.5, "speed_fps": speed, "succ_curve": curve} | changes
    path.write_text(json.dumps({tracker: {"overall": overall, "seq_wise": {"GOT-10k_Test_000001": {"ao": 0.5}}}}))
    return path


def test_table_and_plots_of_several_reports(tmp_path, capsys):
    files = [write_report(tmp_path / "a.json", "slow", 0.4, speed=-1), write_report(tmp_path / "b.json", "good", 0.5)]
    plot_got_success(files, tmp_path / "out")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["Tracker", "AO", "SR0.50", "SR0.75", "FPS"]
    assert lines[2] == ["good", "50.0", "50.0", "25.0", "31.5"]
    assert lines[3] == ["slow", "40.0", "37.5", "6.2", "-"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"got_success.png", "got_success.pdf"}
    picture = np.asarray(Image.open(tmp_path / "out" / "got_success.png").convert("RGB")).reshape(-1, 3)
    assert all((picture == colour).all(axis=1).sum() > 500 for colour in ([0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00]))


def test_one_file_of_several_trackers_and_old_reports(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(
        json.dumps({"a": {"overall": {"ao": 0.5, "succ_curve": [1, 0]}}, "b": {"ao": 1, "succ_curve": [1, 1]}})
    )
    reports = [(tracker, ao, curve[[50, 75]].tolist()) for tracker, ao, curve, _ in read_got_report(path)]
    assert reports == [("a", 50, [50, 25]), ("b", 100, [100, 100])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a report of GOT-10k"),
        ("[" * 100_000, "is not a report of GOT-10k"),
        ("[]", "is not a report of GOT-10k"),
        ("{}", "without a tracker"),
        ('{"t": {"overall": {"ao": 0.5}}}', "'ao' and 'succ_curve' under 'overall'"),
        ('{"t": {"ao": 0.5, "succ_curve": [1]}}', "not numbers from 0 to 1"),
        ('{"t": {"ao": NaN, "succ_curve": [1, 0]}}', "not numbers from 0 to 1"),
        ('{"t": {"ao": 0.5, "succ_curve": [1, "x"]}}', "is not a report of GOT-10k"),
    ],
)
def test_files_that_are_no_reports(tmp_path, content, message):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_got_report(path)


def test_missing_and_double_reports(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.json"):
        read_got_report(tmp_path / "none.json")
    files = [write_report(tmp_path / f"{name}.json", "same", 0.4) for name in "ab"]
    with pytest.raises(UserError, match="two reports are of a tracker called 'same'"):
        plot_got_success(files, tmp_path)
