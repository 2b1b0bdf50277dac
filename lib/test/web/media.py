"""The directories of the server that a page may look into, and nothing outside them."""

import os
from collections.abc import Sequence
from pathlib import Path

from lib.data.images import IMAGE_SUFFIXES, list_images
from lib.utils.errors import UserError

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".ogv", ".flv", ".wmv", ".3gp"),
    ".gif",
)
_MOST_ENTRIES = 2000


class Media:
    """Directories by number: a page names `<number>/<path below it>`, `""` for the list of them.

    Links are followed only where they lead to something below one of the directories.

    Args:
        directories: as the user gave them.

    Raises:
        UserError: one is no directory.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self._roots = []
        for directory in directories:
            if not directory.is_dir():
                raise UserError(f"--media {directory} is not a directory")
            self._roots.append(directory.resolve())

    def __bool__(self) -> bool:
        return bool(self._roots)

    def find(self, name: str) -> Path:
        """The file or directory that a page names.

        Raises:
            UserError: it is not there, or leads out of the directories; both are said in the same words.
        """
        missing = UserError(f"there is no {name[:200]!r} among the server's directories")
        number, _, rest = name.partition("/")
        if not (number.isascii() and number.isdigit()) or len(number) > 4 or int(number) >= len(self._roots):
            raise missing
        if "\0" in rest or "\\" in rest or rest.startswith("/"):
            raise missing
        try:
            path = (self._roots[int(number)] / rest).resolve(strict=True)
        except (OSError, RuntimeError):  # also a loop of links, or a name that is too long
            raise missing from None
        if not self._allowed(path) or not (path.is_file() or path.is_dir()):  # a pipe would be waited for
            raise missing
        return path

    def clip(self, name: str) -> Path:
        """The same of what is to be opened as a clip: a folder's pictures do not lead out of the directories, either.

        Raises:
            UserError: see `find`; or one of the pictures does.
        """
        path = self.find(name)
        if path.is_dir():
            try:
                for picture in list_images(path):
                    self._check_picture(path, picture)
            except OSError as error:
                raise UserError(f"the directory {path.name} cannot be read: {error.strerror}") from error
        return path

    def _check_picture(self, folder: Path, picture: Path) -> None:
        try:
            inside = not picture.is_symlink() or self._allowed(picture.resolve(strict=True))
        except (OSError, RuntimeError):  # it leads nowhere, or to itself
            inside = False
        if not (inside and picture.is_file()):
            raise UserError(
                f"the picture {picture.name} of {folder.name} is no file, or a link out of the server's directories: "
                "start the server with --media for where it leads, too"
            )

    def list(self, name: str) -> dict:
        """What lies in a directory: `{"path", "frames", "entries": [{"name", "path", "kind"}], "more"}`.

        `frames` is the number of images in it, which can be opened as a clip; `kind` is `folder` or `video`; `more`
        says whether there are entries beyond those listed.

        Raises:
            UserError: see `find`; or it cannot be read.
        """
        if name == "":
            entries = [
                {"name": root.name or str(root), "path": str(number), "kind": "folder"}
                for number, root in enumerate(self._roots)
            ]
            return {"path": "", "frames": 0, "entries": entries, "more": False}
        folder = self.find(name)
        if not folder.is_dir():
            raise UserError(f"{folder.name} is not a directory")
        try:
            with os.scandir(folder) as scan:
                found = [entry for entry in scan if not entry.name.startswith(".")]
        except OSError as error:
            raise UserError(f"the directory {folder.name} cannot be read: {error.strerror}") from error
        frames = sum(entry.name.lower().endswith(IMAGE_SUFFIXES) for entry in found)
        listed = [each for entry in found if (each := self._entry(name, entry)) is not None]
        listed.sort(key=lambda each: (each["kind"], each["name"].lower()))
        return {
            "path": name,
            "frames": frames,
            "entries": listed[:_MOST_ENTRIES],
            "more": len(listed) > _MOST_ENTRIES,
        }

    def _entry(self, folder: str, entry: os.DirEntry) -> dict | None:
        """A directory or a video; None for anything else, and for links that lead outside."""
        try:
            if entry.is_symlink() and not self._allowed(Path(entry.path).resolve(strict=True)):
                return None
            kind = "folder" if entry.is_dir() else "video" if entry.is_file() else ""
        except (OSError, RuntimeError):
            return None
        if not kind or (kind == "video" and not entry.name.lower().endswith(VIDEO_SUFFIXES)):
            return None
        return {"name": entry.name, "path": f"{folder}/{entry.name}", "kind": kind}

    def _allowed(self, path: Path) -> bool:
        return any(path == root or root in path.parents for root in self._roots)
