"""Checkpoints: published and plain ones load, others say how they differ, saving loses nothing."""

import resource
import signal
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch
from easydict import EasyDict
from torch import nn

from lib.utils.checkpoint import CheckpointError, load_checkpoint, load_state, save_checkpoint
from lib.utils.checkpoint_files import find_checkpoint, kept_config
from tests.golden_cases import GOLDEN

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@pytest.fixture(params=["lib.train", "ltr"])
def published(monkeypatch, request):
    """A checkpoint with objects of the published classes, which are importable until the test ends.

    Those of `ltr` are of the framework that trained Alpha-Refine.
    """
    if request.param == "ltr":
        monkeypatch.setitem(sys.modules, "ltr", types.ModuleType("ltr"))

    def made(name, **attributes):
        module, kind = f"{request.param}.admin.{name}".rsplit(".", 1)
        if not hasattr(sys.modules.get(module), kind):
            monkeypatch.setitem(sys.modules, module, sys.modules.get(module, types.ModuleType(module)))
            monkeypatch.setattr(sys.modules[module], kind, type(kind, (), {"__module__": module}), raising=False)
        instance = getattr(sys.modules[module], kind)()
        vars(instance).update(attributes)
        return instance

    meter = made("stats.AverageMeter", val=0.5, avg=np.float64(0.625), sum=2.5, count=4, history=[np.float64(0.75)])
    meter.has_new_data = np.bool_(True)
    environment = made("local.EnvironmentSettings", workspace_dir="/somewhere", lasot_dir="/data/lasot")
    settings = made("settings.Settings", env=environment, grad_clip_norm=0.1, device=torch.device("cuda:0"))
    settings.cfg = EasyDict({"TRAIN": {"LR": np.float32(0.5), "STEPS": [1, 2]}, "EMPTY": {}})
    learning_rate = made("stats.StatValue", val=1e-4, history=[np.int64(-3), np.array([1.5], ">f4")[0]])
    return {
        "epoch": 500,
        "actor_type": "STARKSActor",
        "net_type": "STARKS",
        "net": OrderedDict([("a.weight", torch.arange(6.0).view(2, 3)), ("a.bias", torch.tensor([1.0, -1.0]))]),
        "net_info": None,
        "constructor": made("model_constructor.NetConstructor", args=()) if request.param == "ltr" else None,
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "stats": OrderedDict(train=OrderedDict([("Loss/total", meter), ("LR", learning_rate)]), val=None),
        "settings": settings,
    }


@FORMATS
def test_published_checkpoint_loads_without_its_classes_and_is_saved_as_plain(tmp_path, monkeypatch, published, zipped):
    path = tmp_path / "STARKS_ep0500.pth.tar"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(published, path, _use_new_zipfile_serialization=zipped)
    modules = ["easydict", *(name for name in sys.modules if name.startswith(("lib.train.admin.", "ltr")))]
    for name in modules:
        monkeypatch.delitem(sys.modules, name)
    loaded = load_checkpoint(path)
    assert not set(modules) & set(sys.modules)

    torch.testing.assert_close(loaded["net"]["a.weight"], torch.arange(6.0).view(2, 3))
    assert loaded["net"]["a.weight"].device.type == "cpu"
    assert loaded["optimizer"]["state"][0]["exp_avg"].tolist() == [1, 1]
    assert loaded["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert (loaded["epoch"], loaded["net_type"]) == (500, "STARKS")
    settings = loaded["settings"]
    assert type(settings) is dict
    assert settings["env"]["workspace_dir"] == "/somewhere"
    assert settings["device"] == torch.device("cuda:0")
    assert settings["cfg"] == {"TRAIN": {"LR": 0.5, "STEPS": [1, 2]}, "EMPTY": {}}
    assert type(settings["cfg"]["TRAIN"]) is dict
    assert type(settings["cfg"]["TRAIN"]["LR"]) is float
    meter = loaded["stats"]["train"]["Loss/total"]
    assert meter == {"val": 0.5, "avg": 0.625, "sum": 2.5, "count": 4, "history": [0.75], "has_new_data": True}
    assert loaded["stats"]["train"]["LR"]["history"] == [-3, 1.5]

    save_checkpoint(tmp_path / "new.pth", loaded)
    again = torch.load(tmp_path / "new.pth", weights_only=True)
    assert again["settings"]["env"]["lasot_dir"] == "/data/lasot"


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_numbers_of_both_numpy_generations_load(tmp_path, module):
    path = tmp_path / "file.pth"
    torch.save({"net": {"w": torch.zeros(1)}, "x": np.float64(2.5)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.count(b"cnumpy._core.multiarray\nscalar") == 1
    path.write_bytes(content.replace(b"cnumpy._core.multiarray\n", f"c{module}\n".encode()))
    assert load_checkpoint(path)["x"] == 2.5


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (torch.zeros(2, 3), r"a tensor of shape \(2, 3\)"),
        ([1, 2], "a value of type list"),
        ({}, "a dictionary with nothing"),
        ({"model": {"w": torch.zeros(1)}, "lr": 0.1}, "a dictionary with model, lr"),
        ({"net": torch.zeros(1)}, r"under 'net' a tensor of shape \(1,\)"),
        ({"net": {"w": 3}}, "under 'net' a dictionary with w"),
    ],
)
def test_foreign_content_is_described(tmp_path, content, found):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=rf"expected a dictionary .*, found {found}"):
        load_checkpoint(tmp_path / "file.pth")


def test_other_layouts_of_the_dictionary_are_accepted(tmp_path):
    weights = OrderedDict(w=torch.ones(2))
    for content in (weights, {"state_dict": weights, "epoch": 3}, {"net": weights}):
        torch.save(content, tmp_path / "file.pth")
        loaded = load_checkpoint(tmp_path / "file.pth")
        assert loaded["net"]["w"].tolist() == [1, 1]
        assert loaded.get("epoch") == content.get("epoch")
        assert kept_config(tmp_path / "file.pth") == {}


def network():
    return nn.Sequential(OrderedDict(body=nn.Linear(3, 2), norm=nn.BatchNorm1d(2), cls_head=nn.Linear(2, 1)))


@pytest.mark.parametrize("form", ["module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}"])
def test_weights_of_parallel_and_compiled_networks_load_without_counters(form):
    source, target = network(), network()
    state = {form.format(name): value for name, value in source.state_dict().items() if "num_batches" not in name}
    load_state(target, {"net": state, "epoch": 1}, "a.pth")
    for name, value in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], value)
    # Counters that the model has no use for.
    load_state(target.body, {**source.body.state_dict(), "num_batches_tracked": torch.tensor(5)}, "a.pth")
    load_state(target.body, torch.compile(source.body).state_dict(), "a.pth")


def test_safetensors_come_back_and_damage_is_named(tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    source, target, path = network(), network(), tmp_path / "a.safetensors"
    turned = {"body.weight": source.body.weight.detach().T.contiguous().T}  # not in the order of memory
    save_checkpoint(path, {"net": source.state_dict() | turned, "epoch": 3, "settings": {"config": {"A": 1}}})
    loaded = load_checkpoint(path)
    assert loaded.keys() == {"net"}
    load_state(target, loaded, path)
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)
    assert kept_config(path) == {}
    content = path.read_bytes()
    for damaged in (content[:-3], b"", b"PK\x03\x04", b"\xff" * 40):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.safetensors is damaged, truncated or not .* by safetensors"):
            load_checkpoint(path)
    with pytest.raises(CheckpointError, match="cannot read checkpoint .*No such file"):
        load_checkpoint(tmp_path / "absent.safetensors")


def test_without_safetensors_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for act in (load_checkpoint, lambda path: save_checkpoint(path, {"net": {"w": torch.ones(1)}})):
        with pytest.raises(CheckpointError, match="a.safetensors needs the package .*: pip install safetensors"):
            act(tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_difference_is_listed_and_changes_nothing():
    target = network()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    state = {name: value + 1 for name, value in before.items() if not name.startswith("cls_head")}
    state["body.weight"] = torch.zeros(5, 3)
    state |= {f"extra{i}\x1b[2J\n": torch.zeros(1) for i in range(9)}  # such names must not steer a terminal
    listed = (
        "2 missing (cls_head.weight, cls_head.bias); 9 unexpected (extra0?[2J?, extra1?[2J?, extra2?[2J?, and 6 more)"
    )
    listed += "; 1 of another shape (body.weight: expected (2, 3), found (5, 3))"
    with pytest.raises(CheckpointError) as error:
        load_state(target, state, "folder/a.pth")
    assert str(error.value) == f"checkpoint folder/a.pth does not fit the model: {listed}"
    for name, value in target.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_stage_two_keeps_its_own_head_when_the_file_has_none():
    source, target = network(), network()
    head = target.cls_head.weight.clone()
    state = {name: value for name, value in source.state_dict().items() if not name.startswith("cls_head.")}
    load_state(target, state, "a.pth", allow_missing=("cls_head.",))
    torch.testing.assert_close(target.body.weight, source.body.weight)
    torch.testing.assert_close(target.cls_head.weight, head)
    del state["body.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing \(body\.bias\)"):
        load_state(target, state, "a.pth", allow_missing=("cls_head.",))


@pytest.mark.parametrize(
    ("file", "variant"),
    [
        ("stark_s50", r"STARK-S or STARK-ST stage 1 \(no score head\) with ResNet-50"),
        ("stark_st50", "STARK-ST with ResNet-50"),
        ("stark_st101", "STARK-ST with ResNet-101"),
        ("stark_lightning", "STARK-Lightning"),
        ("stark_lightning_deploy", r"STARK-Lightning \(folded\)"),
    ],
)
def test_variants_are_recognised_by_names(file, variant):
    lines = (GOLDEN / f"{file}.state_dict.txt").read_text().splitlines()
    with pytest.raises(CheckpointError, match=rf"The file looks like {variant}, the model is another network$"):
        load_state(network(), {line.split("\t")[0]: torch.zeros(1) for line in lines}, "a.pth")


def test_saved_checkpoint_needs_no_class_and_returns_the_same(tmp_path):
    path = tmp_path / "new" / "STARKS_ep0001.pth.tar"
    net = network()
    optimizer = torch.optim.AdamW(net.parameters())
    content = {
        "epoch": 1,
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "stats": OrderedDict(train={"IoU": np.float64(0.5)}),
        "settings": EasyDict({"config": {"LR": 1e-4}}),
        "random": (torch.get_rng_state(), (3, (1, 2), None)),
    }
    save_checkpoint(path, content)
    plain = torch.load(path, weights_only=True)
    assert (plain["stats"], plain["settings"]) == ({"train": {"IoU": 0.5}}, {"config": {"LR": 1e-4}})
    assert kept_config(path) == {"LR": 1e-4}
    loaded = load_checkpoint(path)
    load_state(network(), loaded, path)
    optimizer.load_state_dict(loaded["optimizer"])
    assert loaded["random"][0].equal(content["random"][0])
    assert loaded["random"][1] == (3, (1, 2), None)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_value_that_would_need_a_class_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match=r"'settings\.paths\[1\]' is of type pathlib"):
        save_checkpoint(tmp_path / "a.pth", {"net": {}, "settings": {"paths": [1, tmp_path]}})
    assert not list(tmp_path.iterdir())


def test_full_disk_keeps_the_old_file_and_an_unwritable_place_is_one_line(tmp_path):
    path = tmp_path / "a.pth"
    save_checkpoint(path, {"net": {"w": torch.ones(1)}})
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"cannot write checkpoint \S+a\.pth: File too large"):
            save_checkpoint(path, {"net": {"w": torch.zeros(100_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_checkpoint(path)["net"]["w"].tolist() == [1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pth"]
    with pytest.raises(CheckpointError, match="cannot write checkpoint"):
        save_checkpoint(path / "b.pth", {"net": {"w": torch.ones(1)}})


def test_checkpoints_are_found_by_epoch(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        find_checkpoint(tmp_path / "absent", "STARKS")
    with pytest.raises(CheckpointError, match=r"STARKS_ep\*\.pth\.tar in .*there: nothing"):
        find_checkpoint(tmp_path, "STARKS")
    for name in ("S_ep0009", "S_ep0100", "S_ep10000", "ST_ep20000", "S_best"):
        (tmp_path / f"STARK{name}.pth.tar").touch()
    (tmp_path / ".STARKS_ep9999.pth.tar").touch()
    assert find_checkpoint(tmp_path, "STARKS").name == "STARKS_ep10000.pth.tar"
    with pytest.raises(CheckpointError, match=r"STARKL_ep\*\.pth\.tar in .*; there: .*STARKS_ep0100\.pth\.tar"):
        find_checkpoint(tmp_path, "STARKL")
