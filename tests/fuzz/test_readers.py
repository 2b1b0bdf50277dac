"""A few examples of what `readers.py` runs for long, and all that it has found."""

import pytest
from hypothesis import HealthCheck, given, settings

from lib.data.box_files import parse_boxes
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
    text = "1" * 100_000 + "x"
    readers.check(lambda data: parse_boxes(data.decode(), "a.txt"), text.encode())
    with pytest.raises(UserError, match="line 1"):
        parse_boxes(text, "a.txt")
