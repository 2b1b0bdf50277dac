"""What a server takes from those who use it."""

from dataclasses import dataclass

# Pictures that may be on their way to a page: it asks for the next by saying that it has shown one.
WINDOW = 8
MOST_OBJECTS = 6  # as many as there are colours that can be told apart on any ground
SMALLEST_BOX = 4  # pixels a side


@dataclass(frozen=True)
class Limits:
    """Limits, each an option of `tracking/web_demo.py`.

    Attributes:
        sessions: open pages at the same time.
        upload_mb: size of one upload, in MiB.
        frames: length of a video or a folder.
        side: width and height of a frame, in pixels.
        idle_minutes: a page that does nothing for so long is closed, and its files are removed.
    """

    sessions: int = 20
    upload_mb: float = 500
    frames: int = 20_000
    side: int = 4096
    idle_minutes: float = 30

    @property
    def upload_bytes(self) -> int:
        """`upload_mb` in bytes."""
        return int(self.upload_mb * 2**20)
