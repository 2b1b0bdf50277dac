"""What all tests share."""

import pytest

from lib.utils import workspace


@pytest.fixture(scope="session", autouse=True)
def _no_local_files(tmp_path_factory):
    """A developer's own local files have no say in tests."""
    nowhere = tmp_path_factory.mktemp("local_files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace, "LOCAL_FILES", {side: nowhere / f"{side}.py" for side in ("train", "test")})
        yield
