"""Packing a data set into one LMDB, which suits disks that are slow with millions of small files.

The LMDB grows under `<output>.partial`, with `checksums.txt` beside it: a line a file, of its CRC-32, size and path.
A transaction holds the files of a batch and how far packing has come, so a broken run goes on behind its last batch.
"""

import fcntl
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import lmdb
from tqdm import tqdm

from lib.data.lmdb_storage import DATA_FILE, LmdbStorage
from lib.data.registry import find_kind
from lib.data.storage import FolderStorage
from lib.data.stored import StoredDataset
from lib.utils.errors import UserError

CHECKSUMS = "checksums.txt"

_STATE_KEY = b".packed"  # Hidden from readers, which pass over names with a dot.
_BATCH_BYTES = 64 << 20
_FIRST_MAP_BYTES = 1 << 30
_LONGEST_KEY = 511
_CHECKSUM_LINE = re.compile(rb"([0-9a-f]{8}) (\d+) (.+)\n", re.DOTALL)


@dataclass
class _State:
    """How far packing has come.

    Attributes:
        root: folder of the data set.
        groups: number of its groups of files.
        group, file: the next file to pack: its group, and its place in the group.
        packed: number of files packed.
        listed: length of the list of checksums, in bytes.
    """

    root: str
    groups: int
    group: int = 0
    file: int = 0
    packed: int = 0
    listed: int = 0


def pack(name: str, data_dir: Path | None = None, output: Path | None = None, progress: bool = True) -> Path:
    """Pack a data set with all its sequences, and compare what was packed with the checksums of what was read.

    A broken run is continued; an LMDB that is there already is verified and otherwise left alone.

    Args:
        name: as in DATA.TRAIN.DATASETS_NAME.
        data_dir: folder of all data sets; the workspace's by default.
        output: folder of the LMDB; beside the data set's by default, where `--use_lmdb` looks for it.
        progress: show progress bars.

    Returns:
        `output`.

    Raises:
        UserError: the data set is missing or malformed, the output cannot be written, or what was packed differs.
    """
    kind = find_kind(name, data_dir)
    output = Path(output) if output else kind.lmdb
    if output.exists():
        verify(output, progress)
        return output
    if not kind.root.is_dir() or LmdbStorage.is_lmdb(kind.root):
        raise UserError(f"{name}: there is no folder {kind.root} to pack: {kind.remedy}")
    source = kind.build_whole(name, FolderStorage(kind.root))
    partial = output.with_name(f"{output.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with _checksums(partial) as checksums:
            _write(source, _State(str(kind.root.resolve()), source.file_groups()), partial, checksums, progress)
            verify(partial, progress)
            with closing(LmdbStorage(partial)) as storage:
                sequences = len(kind.build_whole(name, storage))
            if sequences != len(source):
                raise UserError(f"{partial} reads as {sequences} sequences, not {len(source)}: remove it, pack again")
            (partial / "lock.mdb").unlink(missing_ok=True)
            partial.rename(output)
    except (OSError, lmdb.Error) as error:
        raise UserError(
            f"cannot write {partial}: {error}; make room there (or allow writing) and run again: it goes on"
        ) from error
    return output


def verify(path: Path, progress: bool = True) -> int:
    """Compare an LMDB with its checksums.

    Returns:
        The number of files in it.

    Raises:
        UserError: a file is missing, is one too many, or has other content; or the LMDB was not made by `pack`.
    """
    if not (path / DATA_FILE).is_file() or not (path / CHECKSUMS).is_file():
        raise UserError(
            f"{path} is there, but is no LMDB of ours with {CHECKSUMS}: remove it, or choose another folder"
        )
    count = 0
    with closing(LmdbStorage(path)) as storage, open(path / CHECKSUMS, "rb") as lines:
        entries = storage.entries() - 1  # less the state
        for line in tqdm(lines, desc="verifying", total=entries, unit="file", disable=not progress):
            match = _CHECKSUM_LINE.fullmatch(line)
            if not match:
                raise UserError(f"{path / CHECKSUMS}, line {count + 1}, is damaged: remove {path} and pack again")
            name = os.fsdecode(match[3])
            data = storage.read_bytes(name)
            if len(data) != int(match[2]) or zlib.crc32(data) != int(match[1], 16):
                raise UserError(f"{storage.locate(name)} is not what was packed: remove {path} and pack again")
            count += 1
    if count != entries:
        raise UserError(f"{path} holds {entries} files, but {CHECKSUMS} lists {count}: remove it and pack again")
    return count


@contextmanager
def _checksums(partial: Path) -> Iterator[BinaryIO]:
    """The list of checksums, open for writing, and locked, so that only one run packs."""
    with open(partial / CHECKSUMS, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another run is packing into {partial}: wait for it, or stop it") from error
        yield file


def _write(source: StoredDataset, state: _State, partial: Path, checksums: BinaryIO, progress: bool) -> None:
    """Pack what is missing in `partial`; `state` is that of a fresh start."""
    data_file = partial / DATA_FILE
    size = data_file.stat().st_size if data_file.is_file() else 0
    with lmdb.open(str(partial), map_size=size + _FIRST_MAP_BYTES, max_readers=1) as environment:
        state = _resumed(environment, state, partial)
        if os.fstat(checksums.fileno()).st_size < state.listed:
            raise UserError(f"{partial / CHECKSUMS} is damaged: remove {partial} to pack from the start")
        os.truncate(checksums.fileno(), state.listed)
        with tqdm(
            desc=f"packing {source.name}",
            total=state.groups,
            initial=state.group,
            unit="part",
            disable=not progress or state.group == state.groups,
        ) as bar:
            batch: list[tuple[str, bytes]] = []
            waiting = 0
            for group in range(state.group, state.groups):
                files = source.files(group)
                for place in range(state.file, len(files)):
                    batch.append((files[place], source.storage.read_bytes(files[place])))
                    waiting += len(batch[-1][1])
                    if waiting >= _BATCH_BYTES:
                        state.group, state.file = group, place + 1
                        _commit(environment, batch, state, checksums)
                        batch, waiting = [], 0
                state.file = 0
                bar.update()
            state.group = state.groups
            _commit(environment, batch, state, checksums)


def _resumed(environment: lmdb.Environment, fresh: _State, partial: Path) -> _State:
    """The state in which an earlier run ended, or the fresh one if there was none."""
    with environment.begin() as transaction:
        stored = transaction.get(_STATE_KEY)
    if stored is None:
        return fresh
    state = _State(**json.loads(stored))
    if (state.root, state.groups) != (fresh.root, fresh.groups):
        raise UserError(
            f"{partial} is of {state.groups - 1} parts of {state.root}, not {fresh.groups - 1} of {fresh.root}: "
            "remove it to pack from the start"
        )
    return state


def _commit(environment: lmdb.Environment, batch: list[tuple[str, bytes]], state: _State, checksums: BinaryIO) -> None:
    """Write a batch and the state behind it, whole or not at all; the checksums first, so that none can lack."""
    for path, data in batch:
        if len(os.fsencode(path)) > _LONGEST_KEY:
            raise UserError(f"the path {path[:60]}… is longer than the {_LONGEST_KEY} bytes that LMDB allows")
        checksums.write(b"%08x %d %s\n" % (zlib.crc32(data), len(data), os.fsencode(path)))
    checksums.flush()
    os.fsync(checksums.fileno())
    state.listed = os.fstat(checksums.fileno()).st_size
    state.packed += len(batch)
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for path, data in batch:
                    transaction.put(os.fsencode(path), data)
                transaction.put(_STATE_KEY, json.dumps(asdict(state)).encode())
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])
