"""The directories of the server that a page may look into, and nothing outside them."""

import os
from collections.abc import Sequence
from pathlib import Path

from lib.data.images import is_image_name, list_images
from lib.utils.errors import UserError

_VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".ogv", ".flv", ".wmv", ".3gp"),
    ".gif",
)


class Media:
    """Directories by number: a page names `<number>/<path below it>`, `""` for the list of them.

    Links are followed only where they lead to something below one of the directories. A name that does not exist and
    one that leads out are refused by the same `UserError`.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self.roots = [directory.resolve() for directory in directories]
        for directory in directories:
            if not directory.is_dir():
                raise UserError(f"--media {directory} is not a directory")

    def find(self, name: str) -> Path:
        """The file or directory that a page names."""
        number, _, rest = name.partition("/")
        try:
            path = self._inside(self.roots[int(number)] / rest)
        except (ValueError, IndexError):
            path = None
        if path is None:
            raise UserError(f"there is no {name[:200]!r} among the server's directories")
        return path

    def clip(self, name: str) -> Path:
        """The same for a clip: the pictures of a folder do not lead out of the directories, either."""
        path = self.find(name)
        for picture in list_images(path) if path.is_dir() else ():
            if self._inside(picture) is None:
                raise UserError(
                    f"the picture {picture.name} of {path.name} is no file, or a link out of the server's directories: "
                    "start the server with --media for where it leads, too"
                )
        return path

    def list(self, name: str) -> dict:
        """The content of a directory: `{"path", "frames", "entries": [{"name", "path", "kind"}]}`.

        `frames` is the number of images in it, which can be opened as a clip; `kind` is `folder` or `video`.
        """
        if name == "":
            roots = [
                {"name": root.name or str(root), "path": str(number), "kind": "folder"}
                for number, root in enumerate(self.roots)
            ]
            return {"path": "", "frames": 0, "entries": roots}
        folder = self.find(name)
        names = sorted(os.listdir(folder), key=str.lower)
        folders, videos = [], []
        for each in names:
            path = None if each.startswith(".") or is_image_name(each) else self._inside(folder / each)
            if path is not None and path.is_dir():
                folders.append({"name": each, "path": f"{name}/{each}", "kind": "folder"})
            elif path is not None and each.lower().endswith(_VIDEO_SUFFIXES):
                videos.append({"name": each, "path": f"{name}/{each}", "kind": "video"})
        return {"path": name, "frames": sum(map(is_image_name, names)), "entries": folders + videos}

    def _inside(self, path: Path) -> Path | None:
        """Where a path leads, if that is a file or directory below one of the roots: a pipe would be waited for."""
        try:
            path = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # it does not exist, is a loop of links, or no path at all
            return None
        inside = any(path.is_relative_to(root) for root in self.roots)
        return path if inside and (path.is_file() or path.is_dir()) else None
