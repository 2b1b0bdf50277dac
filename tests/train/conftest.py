"""What the tests of training share."""

import pytest

from lib.data.synthetic import generate


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """Three generated sequences of 24 frames in GOT-10k layout."""
    folder = tmp_path_factory.mktemp("videos") / "train"
    return generate(folder, seed=3, sequences=3, frames=24, split="train", size=(160, 120), workers=1, progress=False)
