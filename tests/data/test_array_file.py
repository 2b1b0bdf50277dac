"""Files of arrays: what was written is read, and nothing else."""

import numpy as np
import pytest

from lib.data.array_file import ArrayFileError, read_arrays, write_arrays


@pytest.fixture
def arrays():
    return {
        "boxes": np.arange(12, dtype=np.float32).reshape(3, 4),
        "names": np.array(["a.jpg", "völlig.png"]),
        "none": np.zeros((0, 4), np.int64),
        "flags": np.array([True, False, True]),
    }


def test_arrays_come_back_read_only(arrays, tmp_path):
    write_arrays(tmp_path / "kept.arrays", arrays)
    found = read_arrays(tmp_path / "kept.arrays")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
        assert found[name].flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        found["boxes"][0] = 1


def test_every_changed_byte_and_every_cut_is_noticed(arrays, tmp_path):
    path = tmp_path / "kept.arrays"
    write_arrays(path, arrays)
    data = path.read_bytes()
    damaged = [data[:place] + bytes([data[place] ^ 0x15]) + data[place + 1 :] for place in range(len(data))]
    damaged += [data[:length] for length in range(0, len(data), 9)] + [data + b"more"]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ArrayFileError, match=r"kept\.arrays is damaged"):
            read_arrays(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none")
