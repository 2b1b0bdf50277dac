"""What `--trackers` names, and where the files of a tracker are looked for."""

from pathlib import Path

import pytest

from lib.data.sequence import Sequence
from lib.test.analysis.sources import parse_tracker, parse_trackers
from lib.utils.errors import UserError

RESULTS = Path("results")


def labels(*texts: str) -> list[str]:
    return [source.label for source in parse_trackers(texts, RESULTS)]


def test_our_trackers_and_their_runs():
    assert labels("stark_s:baseline", "stark_s:baseline:3") == ["stark_s:baseline", "stark_s:baseline_003"]
    sources = parse_tracker("stark_s:baseline:9-11", RESULTS)
    assert [source.folder for source in sources] == [
        RESULTS / "stark_s" / f"baseline_{n}" for n in ("009", "010", "011")
    ]
    assert len({source.group for source in sources}) == 1
    assert [source.label for source in parse_tracker("a:b:0-1=Ours", RESULTS)] == ["Ours 000", "Ours 001"]


def test_a_configuration_file_is_known_by_its_name():
    assert labels("stark_s:experiments/mine/big.yaml") == ["stark_s:big"]


def test_one_named_twice_counts_once():
    assert labels("a:b", "a:b") == ["a:b"]
    assert labels("a:b:0-2", "a:b:1") == ["a:b_000", "a:b_001", "a:b_002"]


@pytest.mark.parametrize("text", ["stark_s", "stark_s:", ":baseline", "", "a:b:", "a:b:x", "a:b:1-", "a:b:1-2:3"])
def test_what_names_no_tracker(text):
    with pytest.raises(UserError, match="does not name a tracker's results: expected tracker:config"):
        parse_tracker(text, RESULTS)


@pytest.mark.parametrize("runs", ["4-2", "0-999999"])
def test_runs_that_are_no_range(runs):
    with pytest.raises(UserError, match="expected FIRST-LAST"):
        parse_tracker(f"a:b:{runs}", RESULTS)


def test_two_of_one_name_are_refused():
    with pytest.raises(UserError, match="two trackers are called 'Best'"):
        labels("a:b=Best", "c:d=Best")


@pytest.mark.parametrize("other", ["b:c=Foo", "b:c:3=Foo", "folder:{}=Foo"])
def test_runs_of_different_trackers_are_never_one_row(other, tmp_path):
    with pytest.raises(UserError, match="give one of them another name with =Label"):
        parse_trackers(["a:c:0-1=Foo", other.format(tmp_path)], tmp_path)


def test_folders_of_other_programs(tmp_path):
    (tmp_path / "x=1").mkdir()
    assert labels(f"folder:{tmp_path / 'x=1'}") == ["x=1"]  # the name of a folder goes before a label
    assert labels(f"folder:{tmp_path / 'x=1'}=OSTrack") == ["OSTrack"]
    for text in (f"folder:{tmp_path / 'none'}", "folder:", "folder:=Label"):
        with pytest.raises(UserError, match="folder of results not found"):
            labels(text)


def test_names_of_other_programs_without_the_sets_prefix(tmp_path):
    (tmp_path / "bike1.txt").touch()
    (source,) = parse_tracker(f"folder:{tmp_path}", RESULTS)
    sequence = Sequence("uav_bike1", "uav", tmp_path, tmp_path / "anno.txt")
    assert source.files(sequence)[0] == tmp_path / "bike1.txt"
    (tmp_path / "uav_bike1.txt").touch()
    assert source.files(sequence)[0] == tmp_path / "uav_bike1.txt"
