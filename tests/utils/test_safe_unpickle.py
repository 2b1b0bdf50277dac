"""Untrusted files: hostile ones run nothing, broken ones say what is wrong."""

import os
import pickle
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.utils.checkpoint import CheckpointError, load_checkpoint
from lib.utils.errors import UserError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Call:
    """Pickles as a call of `function` with `args`, made when somebody unpickles it."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


def hostile_calls(folder):
    """Calls a pickle could ask for, each of which would leave the file `trace` in a folder."""
    trace = folder / "trace"
    code = f"open({str(trace)!r}, 'w')"
    run = Call(exec, code)
    return {
        "posix.system": Call(os.system, f"touch {trace}"),
        "builtins.eval": Call(eval, code),
        "argument of an allowed function": Call(torch._utils._rebuild_tensor_v2, run, 0, (1,), (1,), False, {}),
        "argument of an allowed class": Call(np.dtype, run),
        "state of an allowed object": Call(OrderedDict, state={"x": run}),
        "function given to an allowed one": Call(torch._tensor._rebuild_from_type_v2, exec, int, (code,), None),
    }


@FORMATS
@pytest.mark.parametrize("kind", hostile_calls(Path()))
def test_hostile_pickle_is_refused_and_runs_nothing(tmp_path, zipped, kind):
    path = tmp_path / "hostile.pth"
    content = {"epoch": 1, "net": OrderedDict(w=torch.zeros(2)), "settings": hostile_calls(tmp_path)[kind]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(path)
    assert not (tmp_path / "trace").exists()
    with suppress(Exception):  # from what the call gave
        torch.load(path, weights_only=False)
    assert (tmp_path / "trace").exists()
    named = kind if "." in kind else "builtins.exec"
    expected = f"checkpoint {path} refused: it names {named}, which no checkpoint needs; nothing in it was run"
    assert str(refusal.value) == expected


def rewrite_zip(path, pickled=None, compression=zipfile.ZIP_STORED):
    """Write the entries of a torch.save file anew."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, pickled if pickled and name.endswith("data.pkl") else data)


def write_pickle(path, program, zipped):
    """A torch.save file whose object is the given pickle program."""
    torch.save({"net": {"w": torch.zeros(2)}}, path, _use_new_zipfile_serialization=zipped)
    if zipped:
        rewrite_zip(path, program)
        return
    with open(path, "wb") as file:
        for value in (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}):
            pickle.dump(value, file, protocol=2)
        file.write(program)
        pickle.dump([], file, protocol=2)


SETTINGS = b"clib.train.admin.settings\nSettings\n"
TOUCH = b"X\x05\x00\x00\x00print"
# Pickle programs that misuse what is allowed. c: name, ): (), (..t: tuple, \x81: new object, R: call, b: set state.
SMUGGLERS = {
    "arguments to a stand-in": SETTINGS + b"(" + TOUCH + b"tR",
    "call of an instance": SETTINGS + b")\x81)R",
    "state that is no dictionary": SETTINGS + b")\x81" + TOUCH + b"b",
    "the class itself": SETTINGS,
    "number of a false type": b"cnumpy.core.multiarray\nscalar\n(" + TOUCH + TOUCH + b"tR",
    "type of objects": b"cnumpy\ndtype\n(X\x01\x00\x00\x00OtR",
    "tensor of a string": b"ctorch._utils\n_rebuild_tensor_v2\n(" + TOUCH + b"K\x00K\x01K\x01\x89}tR",
    "a list that holds itself": b"]q\x00h\x00a",
    "a giant": b"cbuiltins\nbytearray\n(\x8a\x06\x00\x00\x00\x00\x00\x40tR",
    "an unfinished program": SETTINGS + b"(",
}


@FORMATS
@pytest.mark.parametrize("kind", SMUGGLERS)
def test_misuse_of_allowed_names_is_an_error(tmp_path, zipped, kind):
    path = tmp_path / "hostile.pth"
    entry = b"}X\x03\x00\x00\x00net}X\x01\x00\x00\x00wNssX\x01\x00\x00\x00x" + SMUGGLERS[kind] + b"s."
    write_pickle(path, b"\x80\x02" + entry, zipped)
    with pytest.raises(CheckpointError, match=r"^checkpoint \S+hostile\.pth (refused|is damaged)"):
        load_checkpoint(path)


def test_shared_lists_are_copied_once(tmp_path):
    """Forty levels of a list that holds its successor twice: 2^40 lists if each reference made a copy."""
    shared = []
    for _ in range(40):
        shared = [shared, shared]
    torch.save({"net": {"w": torch.zeros(1)}, "x": shared}, tmp_path / "file.pth")
    assert len(load_checkpoint(tmp_path / "file.pth")["x"]) == 2


@FORMATS
def test_truncated_files_say_so_and_flipped_bytes_never_escape_as_another_error(tmp_path, zipped):
    path = tmp_path / "file.pth"
    torch.save({"net": OrderedDict(w=torch.zeros(2)), "x": np.float64(1)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in (3, 150, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=r"file\.pth.*(truncated|refused|starts with|text)"):
            load_checkpoint(path)
    random, messages = np.random.default_rng(0), []
    for _ in range(150):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 3):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            load_checkpoint(path)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all(str(path) in message for message in messages)


def test_a_changed_byte_of_a_weight_is_found_and_what_would_unpack_to_more_than_the_file_is_refused(tmp_path):
    path = tmp_path / "file.pth"
    torch.save({"net": {"w": torch.full((500,), 3.25)}}, path)
    content = path.read_bytes()
    place = content.index(np.float32(3.25).tobytes() * 9) + 8
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(CheckpointError, match="another checksum"):
        load_checkpoint(path)
    path.write_bytes(content)
    rewrite_zip(path, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="refused: .*compressed"):
        load_checkpoint(path)


def test_files_of_another_kind_are_named(tmp_path):
    path = tmp_path / "file.pth"
    with pytest.raises(CheckpointError, match="No such file"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="Is a directory"):
        load_checkpoint(tmp_path)
    for content, found in (
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "starts with b'<!DOCTYPE html>"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"PK\x03\x04" + bytes(100), "truncated"),
        (pickle.dumps({"net": {}}), "refused"),
        (pickle.dumps({"net": {}}, protocol=2), "not written by torch.save"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=found) as error:
            load_checkpoint(path)
        assert str(path) in str(error.value)
