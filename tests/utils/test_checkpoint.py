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


def published(package, patch):
    """A checkpoint with objects of the published classes; `ltr` is the framework that trained Alpha-Refine."""

    def made(name, **attributes):
        module, kind = f"{package}.admin.{name}".rsplit(".", 1)
        patch.setitem(sys.modules, module, sys.modules.get(module, types.ModuleType(module)))
        patch.setattr(sys.modules[module], kind, type(kind, (), {"__module__": module}), raising=False)
        instance = getattr(sys.modules[module], kind)()
        vars(instance).update(attributes)
        return instance

    patch.setitem(sys.modules, package, sys.modules.get(package, types.ModuleType(package)))
    meter = made("stats.AverageMeter", val=0.5, history=[np.float64(0.75)], has_new_data=np.bool_(True))
    settings = made("settings.Settings", device=torch.device("cuda:0"), cfg=EasyDict({"LR": np.float32(0.5), "E": {}}))
    settings.env = made("local.EnvironmentSettings", lasot_dir="/data/lasot")
    learning_rate = made("stats.StatValue", val=1e-4, history=[np.int64(-3), np.array([1.5], ">f4")[0]])
    return {
        "net": OrderedDict({"a.weight": torch.arange(6.0).view(2, 3)}),
        "constructor": made("model_constructor.NetConstructor", args=()) if package == "ltr" else None,
        "optimizer": {"param_groups": [{"betas": (0.9, 0.999)}]},
        "stats": OrderedDict(train=OrderedDict([("Loss/total", meter), ("LR", learning_rate)]), val=None),
        "settings": settings,
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("package", ["lib.train", "ltr"])
def test_published_checkpoint_loads_without_its_classes_and_is_saved_as_plain(tmp_path, monkeypatch, package, zipped):
    path = tmp_path / "STARKS_ep0500.pth.tar"
    with monkeypatch.context() as patch:
        content = published(package, patch)
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if not zipped:  # as older numpy names its numbers
        path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    monkeypatch.delitem(sys.modules, "easydict")
    loaded = load_checkpoint(path)
    assert not [name for name in sys.modules if name.startswith(("easydict", "lib.train.admin.", "ltr"))]
    assert loaded["net"]["a.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded["net"]["a.weight"].device.type == "cpu"
    assert loaded["optimizer"] == {"param_groups": [{"betas": (0.9, 0.999)}]}
    settings, stats = loaded["settings"], loaded["stats"]["train"]
    cfg, device = {"LR": 0.5, "E": {}}, torch.device("cuda:0")
    assert settings == {"env": {"lasot_dir": "/data/lasot"}, "device": device, "cfg": cfg}
    assert type(settings["cfg"]["LR"]) is float
    assert stats["Loss/total"] == {"val": 0.5, "history": [0.75], "has_new_data": True}
    assert stats["LR"]["history"] == [-3, 1.5]
    save_checkpoint(tmp_path / "new.pth", loaded)
    assert torch.load(tmp_path / "new.pth", weights_only=True)["settings"] == settings


def test_other_layouts_are_accepted_and_foreign_content_is_described(tmp_path):
    path, weights = tmp_path / "file.pth", OrderedDict(w=torch.ones(2))
    for content in (weights, {"state_dict": weights, "epoch": 3}, {"net": weights}):
        torch.save(content, path)
        loaded = load_checkpoint(path)
        assert loaded["net"]["w"].tolist() == [1, 1]
        assert loaded.get("epoch") == content.get("epoch")
        assert kept_config(path) == {}
    for content, found in (
        (torch.zeros(2, 3), "a Tensor"),
        ({}, "a dict with nothing"),
        ({"model": weights, "lr": 0.1}, "a dict with model, lr"),
        ({"net": {"w": 3}}, "a dict with net"),
    ):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=rf"expected a dictionary .*, found {found}"):
            load_checkpoint(path)


def network():
    return nn.Sequential(OrderedDict(body=nn.Linear(3, 2), norm=nn.BatchNorm1d(2), cls_head=nn.Linear(2, 1)))


@pytest.mark.parametrize("form", ["module.{}", "_orig_mod.{}", "module._orig_mod.{}"])
def test_weights_of_parallel_and_compiled_networks_load_without_counters(form):
    source, target = network(), network()
    state = {form.format(name): value for name, value in source.state_dict().items() if "num_batches" not in name}
    load_state(target, {"net": state, "epoch": 1}, "a.pth")
    for name, value in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], value)
    # Counters that the model has no use for.
    load_state(target.body, {**source.body.state_dict(), "num_batches_tracked": torch.tensor(5)}, "a.pth")


def test_safetensors_come_back_and_damage_is_named(tmp_path, monkeypatch):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    path, weights = tmp_path / "a.safetensors", {"w": torch.arange(6.0).view(2, 3).T}  # not in the order of memory
    save_checkpoint(path, {"net": weights, "epoch": 3})
    loaded = load_checkpoint(path)
    assert loaded.keys() == {"net"}
    assert torch.equal(loaded["net"]["w"], weights["w"])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"a\.safetensors is damaged, truncated or not .* by safetensors"):
        load_checkpoint(path)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for act in (load_checkpoint, lambda path: save_checkpoint(path, {"net": weights})):
        with pytest.raises(CheckpointError, match="a.safetensors needs the package .*: pip install safetensors"):
            act(path)


def test_difference_is_listed_and_changes_nothing():
    target = network()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    state = {name: value + 1 for name, value in before.items() if not name.startswith("cls_head")}
    state["body.weight"] = torch.zeros(5, 3)
    state |= {f"extra{i}\x1b[2J\n": torch.zeros(1) for i in range(9)}  # such names must not steer a terminal
    with pytest.raises(CheckpointError) as error:
        load_state(target, state, "folder/a.pth")
    assert str(error.value) == (
        "checkpoint folder/a.pth does not fit the model: 2 missing (cls_head.weight, cls_head.bias); "
        "9 unexpected (extra0?[2J?, extra1?[2J?, extra2?[2J?, and 6 more); "
        "1 of another shape (body.weight: expected (2, 3), found (5, 3))"
    )
    for name, value in target.state_dict().items():
        torch.testing.assert_close(value, before[name])
    # Stage 2 keeps its own head where the file of stage 1 has none.
    fitting = {name: value + 1 for name, value in before.items() if not name.startswith("cls_head")}
    load_state(target, fitting, "a.pth", allow_missing=("cls_head.",))
    assert torch.equal(target.body.weight, before["body.weight"] + 1)
    assert torch.equal(target.cls_head.weight, before["cls_head.weight"])


@pytest.mark.parametrize(
    ("file", "variant"),
    [
        ("stark_s50", r"STARK-S or STARK-ST stage 1 \(no score head\) with ResNet-50"),
        ("stark_st101", "STARK-ST with ResNet-101"),
        ("stark_lightning_deploy", r"STARK-Lightning \(folded\)"),
    ],
)
def test_variants_are_recognised_by_names(file, variant):
    lines = (GOLDEN / f"{file}.state_dict.txt").read_text().splitlines()
    with pytest.raises(CheckpointError, match=rf"The file looks like {variant}, the model is another network$"):
        load_state(network(), {line.split("\t")[0]: torch.zeros(1) for line in lines}, "a.pth")


def test_saved_checkpoint_needs_no_class_and_returns_the_same(tmp_path):
    path, net = tmp_path / "new" / "STARKS_ep0001.pth.tar", network()
    content = {
        "epoch": 1,
        "net": net.state_dict(),
        "optimizer": torch.optim.AdamW(net.parameters()).state_dict(),
        "stats": OrderedDict(train={"IoU": np.float64(0.5)}),
        "settings": EasyDict({"config": {"LR": 1e-4}}),
        "random": (torch.get_rng_state(), (3, (1, 2), None)),
    }
    save_checkpoint(path, content)
    plain = torch.load(path, weights_only=True)
    assert (plain["stats"], plain["settings"]) == ({"train": {"IoU": 0.5}}, {"config": {"LR": 1e-4}})
    assert kept_config(path) == {"LR": 1e-4}
    with pytest.raises(TypeError, match="is of type .*Path: no plain value"):
        save_checkpoint(path, {"net": {}, "settings": {"paths": [1, tmp_path]}})
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    loaded = load_checkpoint(path)
    load_state(network(), loaded, path)
    torch.optim.AdamW(net.parameters()).load_state_dict(loaded["optimizer"])
    assert loaded["random"][0].equal(content["random"][0])
    assert loaded["random"][1] == (3, (1, 2), None)


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
    for name in ("S_ep0009", "S_ep0100", "S_ep10000", "ST_ep20000", "S_best"):
        (tmp_path / f"STARK{name}.pth.tar").touch()
    assert find_checkpoint(tmp_path, "STARKS").name == "STARKS_ep10000.pth.tar"
    with pytest.raises(CheckpointError, match=r"STARKL_ep\*\.pth\.tar in .*; there: .*STARKS_ep0100\.pth\.tar"):
        find_checkpoint(tmp_path, "STARKL")
