"""The embedded default as a data set: generated when first asked for."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from lib.data.synthetic import DEFAULT_SETS, generate
from lib.utils.errors import UserError


def ensure_embedded(root: Path, split: str) -> None:
    """Make sure that a split of the embedded default is whole in folder `root`.

    Several processes may ask at once, the ranks of a training say: one generates, the others wait.

    Raises:
        UserError: `root` holds something else, or cannot be written.
    """
    with nullcontext() if is_whole(root) else _turn(root.parent / f".{root.name}.lock"):
        generate(root, split=split, **DEFAULT_SETS[split])


def is_whole(root: Path) -> bool:
    """Whether a split was generated to its end."""
    return (root / "list.txt").is_file()


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Hold a file's lock; wait for it if need be. It ends with the process in any case."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(f"cannot write the embedded data to {path.parent}: {error.strerror}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
