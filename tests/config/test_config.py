"""Configurations: the published values, and what is said when something is wrong."""

import json
from pathlib import Path

import pytest

from lib.config import ConfigError, leaves, load_config, option
from lib.config.options import OPTIONS, SCRIPTS

FACTS = json.loads((Path(__file__).parent / "effective_configs.json").read_text())
EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.mark.parametrize("name", list(FACTS))
def test_effective_values_are_the_published_ones(name):
    assert load_config(*name.split("/")) == FACTS[name]


def test_every_configuration_in_the_repository_loads_and_each_call_gives_a_fresh_object():
    for path in EXPERIMENTS.glob("*/*.yaml"):
        assert load_config(path.parent.name, path.stem) == load_config(path.parent.name, path)
    first = load_config("stark_s", "baseline")
    first.TRAIN.BATCH_SIZE = 1
    first.DATA.MEAN.append(0.0)
    first.MODEL.BACKBONE.OUTPUT_LAYERS.clear()
    assert load_config("stark_s", "baseline") == FACTS["stark_s/baseline"]


def test_overrides_win_and_take_the_options_type():
    texts = ["TRAIN.BATCH_SIZE=4", "TRAIN.LR=1e-3", "TRAIN.WEIGHT_DECAY=0", "TRAIN.AMP=bf16", "DATA.MEAN=[0, 0, 0.5]"]
    cfg = load_config("stark_s", "baseline", texts)
    assert (cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.LR, cfg.TRAIN.AMP, cfg.DATA.MEAN) == (4, 0.001, "bf16", [0, 0, 0.5])
    assert isinstance(cfg.TRAIN.WEIGHT_DECAY, float)
    plain = load_config("stark_s", "baseline")
    assert option(plain, "TRAIN.SEED") == OPTIONS["TRAIN.SEED"].default
    assert option(load_config("stark_s", "baseline", ["TRAIN.SEED=7"]), "TRAIN.SEED") == 7
    assert option(plain, "TRAIN.BATCH_SIZE") == 16
    with pytest.raises(KeyError):
        option(plain, "TRAIN.NO_SUCH_OPTION")


def test_data_sets_of_an_override_get_equal_ratios(tmp_path):
    names, ratios, path = "DATA.TRAIN.DATASETS_NAME", "DATA.TRAIN.DATASETS_RATIO", tmp_path / "mine.yaml"
    path.write_text("DATA: {TRAIN: {DATASETS_NAME: [COCO17, VID], DATASETS_RATIO: [2, 3]}}\n")
    for config, overrides, expected in (
        ("baseline", [f"{names}=[COCO17, VID, LASOT]"], [1, 1, 1]),
        # Ratios that a user gives stay, right or wrong, in any order of the overrides; so do those of a file.
        ("baseline", [f"{ratios}=[3, 1, 2]", f"{names}=[COCO17, VID]"], [3, 1, 2]),
        (path, [f"{names}=[LASOT, COCO17]"], [2, 3]),
        (path, [f"{names}=[VID]"], [1]),
    ):
        assert load_config("stark_s", config, overrides).DATA.TRAIN.DATASETS_RATIO == expected


def fault(config, overrides=()):
    """What is said of a configuration, in one line."""
    with pytest.raises(ConfigError) as caught:
        load_config("stark_s", config, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("TRAIN.BATCHSIZE=4", "did you mean 'TRAIN.BATCH_SIZE'"),
        ("TRAIN.BATCH_SIZE=4.5", "must be a whole number, not a number (4.5)"),
        ("MODEL.TRANSFORMER.PRE_NORM=1", "true or false"),
        ("MODEL.HEAD_TYPE=CORNR", "must be one of CORNER, MLP, CORNER_LITE"),
        ("LOG.TO=[wandb, tensorbord]", "must be of tensorboard, wandb, mlflow, not 'tensorbord'"),
        ("TRAIN.FREEZE_LAYERS=[1]", "'TRAIN.FREEZE_LAYERS[0]' must be a text"),
        ("TRAIN=4", "section"),
        ("TRAIN.LR=.nan", "at least 0"),
        ("MODEL.TRANSFORMER.DROPOUT=2", "from 0 to 1"),
        ("DATA.MEAN=[0, 0]", "3 values, not 2"),
        ("TRAIN.LR", "KEY.PATH=value"),
        ("TRAIN.LR=[1", "YAML"),
    ],
)
def test_wrong_overrides(override, part):
    message = fault("baseline", [override])
    assert f"override '{override}'" in message
    assert part in message


def test_wrong_and_missing_files(tmp_path):
    for text, part in (
        ("TRAIN:\n  BATCH_SIZE: many\n", "'TRAIN.BATCH_SIZE' must be a whole number"),
        ("TRAIN: [1, 2]\n", "'TRAIN' is a section"),
        ("- 1\n", "expected sections"),
        ("TRAIN: {LR: 1\n", "line"),
    ):
        (tmp_path / "mine.yaml").write_text(text)
        message = fault(tmp_path / "mine.yaml")
        assert all(each in message for each in ("mine.yaml", part)), message
    assert "did you mean 'baseline'" in fault("baselin")
    assert "nowhere.yaml" in fault("nowhere.yaml")
    with pytest.raises(ConfigError, match="did you mean 'stark_st1'"):
        load_config("stark_st11", "baseline")


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_empty_file_is_all_defaults_which_are_within_their_limits(script, tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("\ufeff# nothing\n", encoding="utf-8")
    values = dict(leaves(load_config(script, path)))
    assert values["TRAIN.BATCH_SIZE"] == (32 if script == "alpha_refine" else 16)
    cfg = load_config(script, path, [f"{key}={json.dumps(values[key])}" for key in values])
    assert all(option(cfg, key) == value for key, value in values.items())
