"""What tests of trackers share."""

import pytest


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working place of its own; gives its folder."""
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    return tmp_path
