"""Files of boxes and flags as users meet them."""

from functools import partial

import numpy as np
import pytest

from lib.data.box_files import parse_boxes, parse_corners, parse_flags, parse_regions, read_boxes
from lib.utils.errors import UserError


@pytest.mark.parametrize(
    "content",
    [
        b"1\t2.5\t30\t40\n-3\t0\t5\t6",
        b"\xef\xbb\xbf1,2.5,30,40\r\n-3,0,5,6\r\n\r\n",
        b" 1 , 2.5 , 30 , 40 \n-3.0;+0;5.;6e0\n\n\n",
    ],
)
def test_boxes_of_all_forms(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    boxes = read_boxes(tmp_path / "a.txt")
    assert boxes.dtype == np.float64
    assert boxes.tolist() == [[1, 2.5, 30, 40], [-3, 0, 5, 6]]


def test_flags_and_regions_of_all_forms():
    for content in ("0\n1\n-1\n", "0,1,-1", "0 1.0\t-1\r\n\r\n", "0,1\n-1", "0\r\n1\r\n-1\r\n"):
        assert parse_flags(content, "a.txt").tolist() == [0, 1, -1]
    lines = "1,2,3,4\r\n0,0,4,1,3,5,-1,2\n0\nnan,nan,nan,nan\nm10,20,4,3,2,1,8,1\nm10,20,4,3,3,2,7\nm0,0,2,2,4\n"
    boxes = parse_regions(lines, "groundtruth.txt")
    assert boxes[[0, 1, 4, 5]].tolist() == [[1, 2, 3, 4], [-1, 0, 5, 5], [12, 20, 2, 3], [10, 20, 4, 2]]
    assert np.isnan(boxes[[2, 3, 6]]).all()


_BOXES = ("", "x,y,w,h", "1,2,3", "1,2,3,4,5", "1,,3,4", "1,2,3,inf", "1_0,2,3,4", "1,2,3,1e99", "1e9 1 1 1", "٣,2,3,4")
_FLAGS = ("0,,1", "0,1,", "", "1_0", "0.5", "99999999", "9" * 5000, "1e300", "--1", "nan", "yes")
_REGIONS = ("1,2,3", "1,2,3,4,5", "m1,2,3", "m0,0,2,2,5", "m0,0,2,2,1.5", "m0,0,2,2,-1", "x")


@pytest.mark.parametrize(
    ("parse", "good", "bad"),
    [
        (parse_boxes, "1,2,3,4", _BOXES),
        (parse_flags, "0", _FLAGS),
        (parse_regions, "1,2,3,4", _REGIONS),
        (partial(parse_corners, count=3), "0 1 2 3 4 0", ("1,2,3,4", "0 1 2 3", "0 1 2 x 4", "")),
    ],
)
def test_malformed_lines_are_named(parse, good, bad):
    for line in bad:
        with pytest.raises(UserError, match=r"^a\.txt, line 2: "):
            parse(f"{good}\n{line}\n{good}\n", "a.txt")


def test_malformed_files_are_named_and_nan_is_allowed_in_annotations(tmp_path):
    path = tmp_path / "a.txt"
    for content, message in ((b"", "is empty"), (b"\r\n \n", "is empty"), (b"\xff\xfe1", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_boxes(path)
    path.write_text("1,2,3,4\nNaN,NaN,NaN,NaN\n")  # a frame without a box
    assert np.isnan(read_boxes(path)[1]).all()
    with pytest.raises(UserError, match=r"a\.txt, line 2: nan, or a number"):
        read_boxes(path, allow_nan=False)
