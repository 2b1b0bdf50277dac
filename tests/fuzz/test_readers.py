"""A few examples of what `readers.py` runs for long, and all that it has found."""

import pytest
from hypothesis import HealthCheck, given, settings

from lib.config import load_config
from lib.config.loader import ConfigError
from lib.data.box_files import parse_boxes, parse_flags
from lib.utils.errors import UserError
from tests.fuzz import readers


@pytest.mark.parametrize("target", readers.TARGETS)
def test_a_reader_gives_a_result_or_one_line(target, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "SCRATCH", tmp_path)
    strategy, read = readers.TARGETS[target]

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def examples(data: bytes | str) -> None:
        readers.check(read, data)

    examples()


def test_the_check_itself_sees_tracebacks_and_long_messages():
    def two_lines(data: bytes) -> None:
        raise UserError("one\ntwo")

    with pytest.raises(AssertionError, match="more than one line"):
        readers.check(two_lines, b"")
    with pytest.raises(ZeroDivisionError):
        readers.check(lambda data: 1 / len(data), b"")


def test_a_long_row_of_digits_is_refused_at_once():
    """Matching must not try every way to split the digits."""
    data = b"1" * 100_000 + b"x"
    readers.check(lambda data: parse_boxes(data, "a.txt"), data)
    with pytest.raises(UserError, match="line 1"):
        parse_boxes(data, "a.txt")


def test_flags_beyond_any_integer():
    with pytest.raises(UserError, match="'1e300' is not a whole number"):
        parse_flags(b"0\n1e300\n", "a.txt")


@pytest.mark.parametrize(
    "value",
    ['!!int ""', "!!bool x", "!!timestamp x", "!!float ''", "0x" + "F" * 5000, "[0x" + "F" * 5000 + "]", "!!map [a]"],
)
def test_values_that_yaml_trips_over(value, tmp_path):
    for key in ("TRAIN.BATCH_SIZE", "TRAIN.LR", "DATA.MEAN"):
        with pytest.raises(ConfigError):
            load_config("stark_s", "baseline", [f"{key}={value}"])
    (tmp_path / "a.yaml").write_text(f"TRAIN:\n  BATCH_SIZE: {value}\n")
    with pytest.raises(ConfigError, match="a.yaml"):
        load_config("stark_s", tmp_path / "a.yaml")


def test_anchors_that_grow_without_bound(tmp_path):
    lists = "".join(f"  - &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 12))
    (tmp_path / "a.yaml").write_text(f"TRAIN:\n  BATCH_SIZE:\n  - &l0 [1]\n{lists}")
    readers.check(lambda _: load_config("stark_s", tmp_path / "a.yaml"), b"")
    with pytest.raises(ConfigError, match=r"'TRAIN\.BATCH_SIZE' must be a whole number, not a list"):
        load_config("stark_s", tmp_path / "a.yaml")


def test_names_of_configurations_that_no_file_system_takes():
    for name in ("x" * 5000, "x" * 5000 + ".yaml", "a\0.yaml"):
        with pytest.raises(ConfigError, match="no configuration"):
            load_config("stark_s", name)
