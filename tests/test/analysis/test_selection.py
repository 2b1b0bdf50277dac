"""What `--trackers` and `--filter` name, and where the files of a tracker are looked for."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from lib.data.sequence import Sequence
from lib.test.analysis.selection import filter_sets, find_groups, load_sets, parse_tracker, parse_trackers
from lib.utils.errors import UserError
from tests.data.made_sets import write_sequence

RESULTS = Path("results")


@dataclass(frozen=True)
class Video:
    """As much of a sequence as choosing needs."""

    name: str
    dataset: str = "otb"
    subfolder: str = ""
    object_class: str = ""
    attributes: tuple[str, ...] = ()


CAR1 = Video("Car1", object_class="car", attributes=("Occlusion", "Scale"))
CAR2 = Video("Car2", object_class="car", attributes=("Scale",))
GIRL = Video("Girl", object_class="person", attributes=("Occlusion",))
SETS = {"otb": [CAR1, GIRL], "more": [CAR2]}


def labels(*texts: str) -> list[str]:
    return [source.label for source in parse_trackers(texts, RESULTS)]


def chosen(*filters: str, sources=()) -> list[str]:
    return [video.name for members in filter_sets(SETS, filters, sources).values() for video in members]


def test_our_trackers_and_their_runs():
    assert labels("stark_s:baseline", "stark_s:baseline:3") == ["stark_s:baseline", "stark_s:baseline_003"]
    sources = parse_tracker("stark_s:baseline:9-11", RESULTS)
    assert [s.folder for s in sources] == [RESULTS / "stark_s" / f"baseline_{n}" for n in ("009", "010", "011")]
    assert len({source.group for source in sources}) == 1
    assert labels("a:b:0-1=Ours") == ["Ours 000", "Ours 001"]
    assert labels("stark_s:experiments/mine/big.yaml") == ["stark_s:big"]
    assert labels("a:b:0-2", "a:b:1") == ["a:b_000", "a:b_001", "a:b_002"]  # one named twice counts once


@pytest.mark.parametrize(
    "text", ["stark_s", "stark_s:", ":baseline", "", "a:b:", "a:b:x", "a:b:1-", "a:b:1-2:3", "a:b:4-2", "a:b:0-9999"]
)
def test_what_names_no_tracker(text):
    with pytest.raises(UserError, match="does not name a tracker's results: expected tracker:config"):
        parse_tracker(text, RESULTS)


@pytest.mark.parametrize(
    "texts", [("a:b=Foo", "c:d=Foo"), ("a:c:0-1=Foo", "b:c:3=Foo"), ("a:c:0-1=Foo", "folder:{}=Foo")]
)
def test_two_of_one_name_are_refused(texts, tmp_path):
    with pytest.raises(UserError, match=r"two trackers are called 'Foo.*give one of them another name with =Label"):
        parse_trackers([text.format(tmp_path) for text in texts], tmp_path)


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


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ([], ["Car1", "Girl", "Car2"]),
        (["car*"], ["Car1", "Car2"]),
        (["name=CAR?"], ["Car1", "Car2"]),
        (["attribute=occlusion"], ["Car1", "Girl"]),
        (["class=Person"], ["Girl"]),
        (["attribute=Scale", "*2"], ["Car2"]),
    ],
)
def test_filters(filters, names):
    assert chosen(*filters) == names
    assert all(filter_sets(SETS, filters, ()).values())  # a set of which nothing is left is dropped


def test_sequences_that_all_trackers_have(tmp_path):
    for tracker, names in (("one", ("Car1", "Girl")), ("two", ("Girl", "Car2"))):
        (tmp_path / tracker / "c").mkdir(parents=True)
        for name in names:
            (tmp_path / tracker / "c" / f"{name}.txt").touch()
    sources = [source for name in ("one", "two") for source in parse_tracker(f"{name}:c", tmp_path)]
    assert chosen("common", sources=sources) == ["Girl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Car7", "no sequence is left; possible are Car"),
        ("attribute=Blur", "no sequence is left; possible are .*Occlusion"),
        ("class=persons", "possible are person"),
        ("size=3", "expected PATTERN, name=PATTERN"),
        ("=3=", "expected PATTERN, name=PATTERN"),
    ],
)
def test_filters_that_leave_nothing(text, message):
    with pytest.raises(UserError, match=message):
        chosen(text)


def test_groups_are_the_sets_and_the_attributes_of_their_files():
    assert find_groups(SETS) == {
        ("set", "otb"): ["Car1", "Girl"],
        ("set", "more"): ["Car2"],
        ("attribute", "Occlusion"): ["Car1", "Girl"],
        ("attribute", "Scale"): ["Car1", "Car2"],
    }
    assert list(find_groups({"more": [CAR2]})) == [("attribute", "Scale")]


def test_one_folder_counts_once_and_two_of_one_name_are_told_apart(tmp_path):
    for place in (tmp_path / "a" / "set", tmp_path / "b" / "set"):
        write_sequence(place, "ant")
    once = load_sets([f"folder:{tmp_path}/a/set", f"folder:{tmp_path}/a/set/"])
    assert [(title, len(members)) for title, members in once.items()] == [("set", 1)]
    assert len(find_groups(load_sets([f"folder:{tmp_path}/a/set", f"folder:{tmp_path}/b/set"]))) == 2
