"""The files that a page can ask for, and their names."""

import re
from pathlib import Path
from typing import Literal

Download = Literal["video", "table", "sequences"]

# The end of the file's name after that of the clip, and its type.
DOWNLOADS: dict[Download, tuple[str, str]] = {
    "video": ("tracked.mp4", "video/mp4"),
    "table": ("boxes.csv", "text/csv; charset=utf-8"),
    "sequences": ("got10k.zip", "application/zip"),
}


def file_name(name: str) -> str:
    """A clip's name as part of a file's: letters, digits, dashes; never empty, a path, or hidden."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(name).stem).strip("_")[:60] or "clip"
