"""Packing a data set into one LMDB, for disks that are slow with millions of small files."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import lmdb

from ..utils.errors import UserError
from ..utils.progress import progress_bar
from .dataset import TrackingDataset
from .registry import find_kind
from .storage import LmdbStorage, Storage

_BATCH_BYTES = 64 << 20
_FIRST_MAP_BYTES = 1 << 30
_LONGEST_KEY = 511


def pack(name: str, data_dir: Path | None = None, output: Path | None = None, progress: bool = True) -> Path:
    """Pack a data set with all its sequences into a temporary folder, check it, and rename it.

    Args:
        name, data_dir: as of `build_dataset`.
        output: folder of the LMDB, which is returned; beside the data set's by default, where `--use_lmdb` looks.
    """
    kind = find_kind(name, data_dir)
    output = Path(output) if output else kind.lmdb
    if output.exists():
        raise UserError(f"{output} exists: remove it to pack again, or choose another folder with --output")
    if not kind.root.is_dir() or LmdbStorage.is_lmdb(kind.root):
        raise UserError(f"{name}: there is no folder {kind.root} to pack: {kind.remedy}")
    source = kind.build(name, Storage(kind.root))
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        count = _write(source, partial, progress)
        with closing(LmdbStorage(partial)) as packed:
            sequences = len(kind.build(name, packed))
            if packed.entries() != count or sequences != len(source):
                raise UserError(f"{output}: packed {sequences} sequences of {len(source)}: pack again")
        (partial / "lock.mdb").unlink(missing_ok=True)
        partial.rename(output)
    except (OSError, lmdb.Error) as error:
        raise UserError(f"cannot write {output}: {error}; make room there, or allow writing") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


def _write(source: TrackingDataset, folder: Path, progress: bool) -> int:
    """Write all files of a data set into the LMDB of a folder; their number."""
    paths, batch, waiting = list(source.files()), {}, 0
    with lmdb.open(str(folder), map_size=_FIRST_MAP_BYTES, max_readers=1) as environment:
        for path in progress_bar(f"packing {source.name}", "files", paths, disable=not progress):
            key = os.fsencode(path)
            if len(key) > _LONGEST_KEY:
                raise UserError(f"the path {path[:60]}… is longer than the {_LONGEST_KEY} bytes that LMDB allows")
            batch[key] = source.storage.read_bytes(path)
            waiting += len(batch[key])
            if waiting >= _BATCH_BYTES:
                _commit(environment, batch)
                batch, waiting = {}, 0
        _commit(environment, batch)
    return len(paths)


def _commit(environment: lmdb.Environment, batch: dict[bytes, bytes]) -> None:
    """Write a batch in one transaction; the map grows where it is full."""
    while True:
        try:
            with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(batch.items())
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])
