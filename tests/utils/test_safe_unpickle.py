"""Untrusted files: hostile ones run nothing, broken ones say what is wrong."""

import builtins
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.utils.checkpoint import CheckpointError, load_checkpoint, read_untrusted
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
    trace, array = folder / "trace", folder / "array.npy"
    code = f"open({str(trace)!r}, 'w')"
    run = Call(exec, code)
    if folder != Path():
        np.save(array, np.array([run]), allow_pickle=True)
    return {
        "posix.system": Call(os.system, f"touch {trace}"),
        "io.open": Call(builtins.open, str(trace), "w"),
        "builtins.exec": run,
        "builtins.eval": Call(eval, code),
        "builtins.getattr": Call(getattr, Call(type(trace), str(trace)), "touch"),
        "numpy.load": Call(np.load, str(array), None, True),
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
    named = kind if "." in kind else "builtins.exec"
    expected = f"checkpoint {path} refused: it names {named}, which no checkpoint needs; nothing in it was run"
    assert str(refusal.value) == expected


@pytest.mark.parametrize("kind", ["posix.system", "io.open", "numpy.load", "argument of an allowed class"])
def test_hostile_pickles_do_run_elsewhere(tmp_path, kind):
    """Without this, the test above could pass because its pickles do nothing at all."""
    torch.save(hostile_calls(tmp_path)[kind], tmp_path / "hostile.pth")
    torch.load(tmp_path / "hostile.pth", weights_only=False)
    assert (tmp_path / "trace").exists()


def rewrite_zip(path, pickled=None, compression=zipfile.ZIP_STORED):
    """Write the entries of a torch.save file anew, with another pickle."""
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
    "arguments to new": SETTINGS + b"(" + TOUCH + b"t\x81",
    "call of an instance": SETTINGS + b")\x81)R",
    "state that is no dictionary": SETTINGS + b")\x81" + TOUCH + b"b",
    "state in slots": SETTINGS + b")\x81(NN}tb",
    "state with a name that is no attribute": SETTINGS + b")\x81}X\x03\x00\x00\x00a bNsb",
    "the class itself": SETTINGS,
    "a function": b"cnumpy.core.multiarray\nscalar\n",
    "number of a false type": b"cnumpy.core.multiarray\nscalar\n(" + TOUCH + TOUCH + b"tR",
    "type of objects": b"cnumpy\ndtype\n(X\x01\x00\x00\x00OtR",
    "number of no bytes": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\x00\x00\x00f8tR"
    b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00latin1tRtR",
    "tensor of a string": b"ctorch._utils\n_rebuild_tensor_v2\n(" + TOUCH + b"K\x00K\x01K\x01\x89}tR",
    "a list that holds itself": b"]q\x00h\x00a",
    "lists within lists": b"]q\x00" + b"".join(b"](h\x00h\x00eq\x00" for _ in range(200)),
    "a tower of tuples as a key": b"}(K\x01K\x02\x86q\x00" + b"h\x00\x86q\x00" * 40 + b"Nu",
    "a giant": b"cbuiltins\nbytearray\n(\x8a\x06\x00\x00\x00\x00\x00\x40tR",
    "an unfinished program": SETTINGS + b"(",
    "an operation on nothing": b"R",
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
    loaded = load_checkpoint(tmp_path / "file.pth")["x"]
    assert loaded[0] is loaded[1]


@FORMATS
def test_tensor_larger_than_its_storage_is_an_error(tmp_path, zipped):
    values = torch.zeros(4).untyped_storage()
    storage = torch.storage.TypedStorage(wrap_storage=values, dtype=torch.float, _internal=True)
    content = {"net": {"w": Call(torch._utils._rebuild_tensor_v2, storage, 0, (10**6,), (1,), False, {})}}
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "file.pth")


@FORMATS
def test_attributes_hung_on_an_easydict_cannot_replace_its_methods(tmp_path, zipped):
    # The state of an EasyDict holds an attribute "items" that is a class: reading must not call it.
    program = (
        b"\x80\x02}X\x01\x00\x00\x00xceasydict\nEasyDict\n)\x81}X\x05\x00\x00\x00itemsclib.train.admin.settings\nSettings\nsb"
        b"(X\x01\x00\x00\x00aK\x07us."
    )
    write_pickle(tmp_path / "file.pth", program, zipped)
    assert read_untrusted(tmp_path / "file.pth")["x"] == {"a": 7}


@FORMATS
def test_truncated_files_say_so_and_flipped_bytes_never_escape_as_another_error(tmp_path, zipped):
    path = tmp_path / "file.pth"
    torch.save({"net": OrderedDict(w=torch.zeros(2)), "x": np.float64(1)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in (2, 3, 20, 150, len(content) // 2, len(content) - 1):
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
    torch.save({"net": {"w": torch.zeros(2)}}, path)
    rewrite_zip(path, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="refused: .*compressed"):
        load_checkpoint(path)
    torch.save({"net": {"w": torch.zeros(1).expand(10**9)}}, path)
    with pytest.raises(CheckpointError, match=r"net\.w.* repeats"):
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
        (b"\x00\x01\x02\x03", "starts with"),
        (b"PK\x03\x04" + bytes(100), "truncated"),
        (pickle.dumps({"net": {}}), "not written by torch.save"),
        (pickle.dumps({"net": {}}, protocol=2), "not written by torch.save"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=found) as error:
            load_checkpoint(path)
        assert str(path) in str(error.value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(CheckpointError, match="not written by torch.save"):
        load_checkpoint(path)
