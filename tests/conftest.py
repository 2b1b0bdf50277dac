"""What all tests share."""

import runpy
import sys

import pytest

from lib.utils import workspace


@pytest.fixture(scope="session", autouse=True)
def _no_local_files(tmp_path_factory):
    """A developer's own local files have no say in tests."""
    nowhere = tmp_path_factory.mktemp("local_files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace, "LOCAL_FILES", {side: nowhere / f"{side}.py" for side in ("train", "test")})
        yield


@pytest.fixture
def run_script(monkeypatch):
    """Run a script of `tracking/` in this process; gives its exit status."""

    def run(name: str, *words: object) -> int:
        monkeypatch.setattr(sys, "argv", [f"tracking/{name}", *map(str, words)])
        monkeypatch.syspath_prepend(workspace.REPOSITORY / "tracking")  # as Python does
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(workspace.REPOSITORY / "tracking" / name), run_name="__main__")
        return ended.value.code

    return run
