"""Attributes of sequences (fast motion, occlusion, …) as the files of test sets carry them."""

import re
from pathlib import Path

from lib.data.box_files import read_flags
from lib.utils.errors import UserError
from lib.utils.text import read_text

UAV123 = ("SV", "ARC", "LR", "FM", "FOC", "POC", "OV", "BC", "IV", "VC", "CM", "SOB")
TNL2K = ("CM", "ROT", "DEF", "FOC", "IV", "OV", "POC", "VC", "SV", "BC", "MB", "ARC", "LR", "FM", "AS", "TC", "MS")
_GOT10K_KEYS = ("root_class", "motion_class")


def flagged(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """A file with a 0 or 1 for each of `names` in order (UAV123, TNL2K); none where there is no file.

    Raises:
        UserError: it has another number of flags, or is malformed.
    """
    if not path.is_file():
        return ()
    flags = read_flags(path)
    if len(flags) != len(names):
        raise UserError(f"{path} has {len(flags)} flags, expected {len(names)}: {', '.join(names)}")
    return tuple(name for name, flag in zip(names, flags, strict=True) if flag)


def listed(path: Path) -> tuple[str, ...]:
    """A file of names between commas or spaces (OTB's `attrs.txt`: `IV, OCC, DEF`); none where there is no file."""
    if not path.is_file():
        return ()
    return tuple(dict.fromkeys(name for name in re.split(r"[\s,;]+", read_text(path)) if name))


def tagged(folder: Path) -> tuple[str, ...]:
    """VOT's `<tag>.tag` or `<tag>.label` files, a flag a frame: the tags that are set on any frame."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".tag", ".label") and path.is_file())
    return tuple(path.stem for path in files if read_flags(path).any())


def got10k_meta(meta_file: Path) -> tuple[str, ...]:
    """Root class and motion class of a GOT-10k `meta_info.ini`, as `motion_class=running`; none for `-`."""
    meta = read_meta(meta_file)
    return tuple(f"{key}={meta[key]}" for key in _GOT10K_KEYS if meta.get(key, "-") not in ("", "-"))


def read_meta(meta_file: Path) -> dict[str, str]:
    """`key: value` lines of a GOT-10k `meta_info.ini`, which is no INI file to the letter; {} where there is none."""
    if not meta_file.is_file():
        return {}
    lines = (line.partition(":") for line in read_text(meta_file, errors="replace").splitlines())
    return {key.strip(): value.strip() for key, colon, value in lines if colon}
