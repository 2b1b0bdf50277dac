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
_MOST_ENTRIES = 2000


class Media:
    """Directories by number: a page names `<number>/<path below it>`, `""` for the list of them.

    Links are followed only where they lead to something below one of the directories.

    Raises:
        UserError: one is no directory.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self.roots = [directory.resolve() for directory in directories]
        for directory in directories:
            if not directory.is_dir():
                raise UserError(f"--media {directory} is not a directory")

    def find(self, name: str) -> Path:
        """The file or directory that a page names.

        Raises:
            UserError: it does not exist, or leads out of the directories; both are said in the same words.
        """
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
        """The content of a directory: `{"path", "frames", "entries": [{"name", "path", "kind"}], "more"}`.

        `frames` is the number of images in it, which can be opened as a clip; `kind` is `folder` or `video`; `more`
        says whether there are entries beyond those listed.

        Raises:
            UserError: see `find`; or it is not a directory that can be read.
        """
        if name == "":
            roots = [
                {"name": root.name or str(root), "path": str(number), "kind": "folder"}
                for number, root in enumerate(self.roots)
            ]
            return {"path": "", "frames": 0, "entries": roots, "more": False}
        folder = self.find(name)
        try:
            names = [each for each in os.listdir(folder) if not each.startswith(".")]
        except OSError as error:
            raise UserError(f"the directory {folder.name} cannot be read: {error.strerror}") from error
        entries = []
        for each in sorted(names, key=str.lower):
            path = None if is_image_name(each) else self._inside(folder / each)
            if path is not None and (path.is_dir() or each.lower().endswith(_VIDEO_SUFFIXES)):
                kind = "folder" if path.is_dir() else "video"
                entries.append({"name": each, "path": f"{name}/{each}", "kind": kind})
        entries.sort(key=lambda entry: entry["kind"])
        shown, more = entries[:_MOST_ENTRIES], len(entries) > _MOST_ENTRIES
        return {"path": name, "frames": sum(map(is_image_name, names)), "entries": shown, "more": more}

    def _inside(self, path: Path) -> Path | None:
        """Where a path leads, if that is a file or directory below one of the roots: a pipe would be waited for."""
        try:
            path = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # it does not exist, is a loop of links, or no path at all
            return None
        inside = any(path.is_relative_to(root) for root in self.roots)
        return path if inside and (path.is_file() or path.is_dir()) else None
