"""Configurations: the defaults, a YAML file over them, and overrides over that; a mistake is one line."""

import copy
import difflib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from easydict import EasyDict

from ..utils.checkpoint_files import kept_config
from ..utils.errors import UserError
from ..utils.workspace import EXPERIMENTS
from .options import OPEN_SECTION, OPTIONS, SCRIPTS, Option

# Beginnings of the options that decide what a network computes.
_NETWORK = ("MODEL.", "DATA.MEAN", "DATA.STD", "DATA.SEARCH.", "DATA.TEMPLATE.")


class ConfigError(UserError):
    """A configuration that cannot be used; the message, one line, names file, key path and remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def load_config(script: str, config: str | Path, overrides: Sequence[str] = ()) -> EasyDict:
    """The effective configuration of one experiment, a fresh object each call.

    `config` is a name in `experiments/<script>/` (`baseline`), or the path of a YAML file. Overrides are texts
    `KEY.PATH=value`, with the value in YAML (`TRAIN.BATCH_SIZE=4`). Where they name more or fewer data sets than there
    are ratios, and give no ratios, all sets are chosen equally often.
    """
    if script not in SCRIPTS:
        raise ConfigError(f"unknown script '{script}'; {closest(script, SCRIPTS)}")
    path = config_path(script, config)
    values = {key: copy.copy(entry.default_of(script)) for key, entry in OPTIONS.items() if script in entry.scripts}
    for key, value in _read(path):
        values[key] = _checked(script, key, value, str(path))
    overridden = set()
    for text in overrides:
        key, value = _parse_override(text)
        values[key] = _checked(script, key, value, f"override '{text}'")
        overridden.add(key)
    for part in ("DATA.TRAIN", "DATA.VAL"):
        names, ratios = f"{part}.DATASETS_NAME", f"{part}.DATASETS_RATIO"
        # A wrong number of ratios in a file is a mistake and stays; here the user thought of names only.
        if len(values[names]) != len(values[ratios]) and names in overridden and ratios not in overridden:
            values[ratios] = [1] * len(values[names])
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return EasyDict(tree)


def option(cfg: EasyDict, key: str) -> Any:
    """The value at a key path, or the default of an optional option; KeyError where the script lacks the option."""
    node: Any = cfg
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if node is None and not OPTIONS[key].optional:
        raise KeyError(key)
    return OPTIONS[key].fallback if node is None else node


def experiment_name(config: str | Path) -> str:
    """The name of a configuration in paths of files: the YAML file's name without suffix."""
    return Path(config).stem if str(config).endswith((".yaml", ".yml")) else str(config)


def config_path(script: str, config: str | Path) -> Path:
    """The YAML file of `config`, a name or a path as for `load_config`; raises ConfigError if it is missing."""
    if str(config).endswith((".yaml", ".yml")):
        path = Path(config)
        if path.is_file():
            return path
        raise ConfigError(f"no configuration file {path}")
    path = EXPERIMENTS / script / f"{config}.yaml"
    if not path.is_file():
        names = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ConfigError(f"no configuration '{config}' in experiments/{script}; {closest(str(config), names)}")
    return path


def _read(path: Path) -> Iterator[tuple[str, Any]]:
    """The (key path, value) pairs of a YAML file."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(tree, dict | None):
        raise ConfigError(f"{path}: expected sections such as MODEL, DATA, TRAIN, found {_kind(tree)}")
    return leaves(tree or {})


def leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The (key path, value) pairs of a configuration."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def trained_config(
    script: str, config: str | Path, weights: Path, overrides: Sequence[str] = ()
) -> tuple[EasyDict, str]:
    """The configuration to use a trained network with, and for people the options that differ from the YAML file.

    What decides what the network computes is taken from its checkpoint: the network's options, mean and deviation,
    sizes and factors of the regions. A checkpoint that keeps no configuration, as published ones, leaves that of the
    YAML file. `overrides` go before both.
    """
    cfg = load_config(script, config, overrides)
    before, trained = dict(leaves(cfg)), dict(leaves(kept_config(weights)))
    taken = {key: trained[key] for key in before if key.startswith(_NETWORK) and key in trained}
    for region in ("SEARCH", "TEMPLATE"):
        for what in ("SIZE", "FACTOR"):
            key = f"DATA.{region}.{what}"
            # A region for tracking may differ from that of training, but follows a change of it.
            if taken.get(key, before.get(key)) != before.get(key) and f"TEST.{region}_{what}" in before:
                taken[f"TEST.{region}_{what}"] = taken[key]
    named = {text.partition("=")[0].strip() for text in overrides}
    changed = {key: value for key, value in taken.items() if value != before.get(key) and key not in named}
    if changed:
        given = [f"{key}={json.dumps(value)}" for key, value in changed.items()]
        cfg = load_config(script, config, [*given, *overrides])
    return cfg, "; ".join(f"{key} {value}, not {before.get(key)}" for key, value in sorted(changed.items()))


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override '{text}' is not of the form KEY.PATH=value, such as TRAIN.BATCH_SIZE=4")
    try:
        return key.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"override '{text}': the value is not valid YAML") from error


def _find(script: str, key: str, source: str) -> Option:
    """The table's entry for a key path of a script."""
    known = [k for k, entry in OPTIONS.items() if script in entry.scripts or entry.optional]
    if key in known:
        return OPTIONS[key]
    inside = [k for k in known if k.startswith(f"{key}.")]
    if inside:
        raise ConfigError(f"{source}: '{key}' is a section; set a key in it, such as '{inside[0]}'")
    beside = [k for k in known if k.startswith(f"{OPEN_SECTION}.")]
    if beside and key.rpartition(".")[0] == OPEN_SECTION:
        return OPTIONS[beside[0]]
    raise ConfigError(f"{source}: unknown key '{key}'; {closest(key, known)}")


def _checked(script: str, key: str, value: Any, source: str) -> Any:
    """The value in the kind of its option, or a `ConfigError`."""
    entry = _find(script, key, source)
    several = isinstance(entry.default_of(script), list)
    if several or not entry.choices:
        value = _converted(value, entry.default_of(script), entry.fractions, key, source)
    for item in (value if several else [value]) if entry.choices else ():
        # Types are compared too, which keeps False apart from 0.
        if not any(item == choice and type(item) is type(choice) for choice in entry.choices):
            names = ", ".join(str(choice) for choice in entry.choices)
            raise ConfigError(f"{source}: '{key}' must be {'of' if several else 'one of'} {names}, not {item!r}")
    if entry.length and len(value) != entry.length:
        raise ConfigError(f"{source}: '{key}' must have {entry.length} values, not {len(value)}")
    if entry.filled and value == []:
        raise ConfigError(f"{source}: '{key}' must not be empty")
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, (int, float)) and not (entry.low <= item <= entry.high and math.isfinite(item)):
            limit = f"at least {entry.low:g}" if entry.high == math.inf else f"from {entry.low:g} to {entry.high:g}"
            raise ConfigError(f"{source}: '{key}' must be {limit}, not {item}")
    return value


def _converted(value: Any, default: Any, fractions: bool, key: str, source: str) -> Any:
    """The value in the type of the default."""
    if isinstance(default, list) and isinstance(value, list):
        return [_converted(item, default[0], fractions, f"{key}[{i}]", source) for i, item in enumerate(value)]
    if isinstance(default, float) and isinstance(value, str):
        with suppress(ValueError):
            value = float(value)  # YAML 1.1 reads `1e-4` as text
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(default, float):
            return float(value)
        if fractions:
            return value
    if type(value) is not type(default):
        raise ConfigError(f"{source}: '{key}' must be {_kind(default)}, not {_kind(value)} ({value!r})")
    return value


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return (names | {dict: "a section", type(None): "nothing"}).get(type(value), type(value).__name__)


def closest(word: str, words: Sequence[str]) -> str:
    """A hint that names the closest of the valid words, or all of them."""
    by_lower = {w.lower(): w for w in words}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1)
    leaf = [w for w in words if w.rpartition(".")[2].lower() == word.rpartition(".")[2].lower()]
    if match or leaf:
        return f"did you mean '{by_lower[match[0]] if match else leaf[0]}'?"
    return "valid: " + ", ".join(words[:20]) + (", …" if len(words) > 20 else "")
