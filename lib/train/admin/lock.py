"""One run at a time in a folder."""

import fcntl
import logging
import os
import socket
from pathlib import Path

from lib.utils.errors import UserError
from lib.utils.files import NO_LOCKS

log = logging.getLogger(__name__)


class FolderLock:
    """Holds a run's folder until `release`, or until the process ends however it ends.

    The lock belongs to the process, not to the file: one left behind by a killed run holds nothing up,
    and the data workers that such a run may leave for some seconds do not inherit it.

    Args:
        folder: made if missing.

    Raises:
        UserError: another run holds the folder, or it cannot be written. Where the file system knows no locks, that is
            said in a warning, and the run goes on.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / ".lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held open as long as the run lasts
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --save_dir") from error
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                log.warning("%s cannot be locked (%s): see that no other run writes there", folder, error.strerror)
                return
            if not isinstance(error, (BlockingIOError, PermissionError)):
                raise UserError(f"cannot lock {path}: {error.strerror}; choose a --save_dir on another disk") from error
            self.file.seek(0)
            holder = self.file.read().strip() or "unknown"
            self.file.close()
            raise UserError(
                f"another run writes to {folder} ({holder}): wait for it, stop it, or choose another --save_dir"
            ) from error
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self.file.flush()

    def release(self) -> None:
        """Let others have the folder."""
        self.file.close()
