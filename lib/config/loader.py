"""Reading a configuration; every mistake is one line that names file, key path and remedy."""

import difflib
import math
import reprlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from easydict import EasyDict

from lib.config.defaults import CHOICES, EXTENSIONS, LENGTHS, RANGES, SCRIPTS, published
from lib.utils.errors import UserError
from lib.utils.workspace import REPOSITORY

EXPERIMENTS = REPOSITORY / "experiments"

# What PyYAML lets through for texts such as `!!int ""`, `!!bool x`, `!!timestamp x` or `!!map [x]`, or very deep ones.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)
_LARGEST_INTEGER = 2**63 - 1
_LONGEST_VALUE = 80


class ConfigError(UserError):
    """A configuration that cannot be used; the message is one line, whatever the text that it quotes."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def load_config(script: str, config: str | Path, overrides: Sequence[str] = ()) -> EasyDict:
    """The effective configuration of one experiment, a fresh object each call.

    Args:
        script: `stark_s`, `stark_st1`, `stark_st2`, `stark_lightning_X_trt` or `alpha_refine`.
        config: a name in `experiments/<script>/` (`baseline`), or the path of a YAML file.
        overrides: `KEY.PATH=value` texts; the value is read as YAML (`TRAIN.BATCH_SIZE=4`). Where they name data
            sets of another number than there are ratios, and give no ratios, all sets are drawn equally often.

    Returns:
        Every published option of the script, and of the options beyond those
        (`lib.config.defaults.EXTENSIONS`) the ones that were set; see `option`.

    Raises:
        ConfigError: a missing file, text that is not YAML, an unknown key, a wrong type or value.
    """
    if script not in SCRIPTS:
        raise ConfigError(f"unknown script '{script}'; {_closest(script, SCRIPTS)}")
    path = config_path(script, config)
    known = published(script)
    extensions = {key: value for key, (value, _) in EXTENSIONS.items() if not _present(known, key)}
    effective = published(script)
    for key, value in _read(path):
        _set(effective, known, extensions, key, value, str(path))
    overridden = set()
    for text in overrides:
        key, value = _parse_override(text)
        _set(effective, known, extensions, key, value, f"override '{text}'")
        overridden.add(key)
    for part in ("TRAIN", "VAL"):
        _fit_ratios(effective["DATA"][part], f"DATA.{part}", overridden)
    return EasyDict(effective)


def option(cfg: EasyDict, key: str) -> Any:
    """The value at a key path, or its default where the configuration does not set this extension.

    Raises:
        KeyError: the path is neither in the configuration nor an extension (a mistake in the code).
    """
    node: Any = cfg
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return EXTENSIONS[key][0]
        node = node[part]
    return node


def experiment_name(config: str | Path) -> str:
    """The name under which a configuration's files are kept: the YAML file's name without suffix."""
    return Path(config).stem if str(config).endswith((".yaml", ".yml")) else str(config)


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a section or key written twice is an error, and not the last one of them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node.value, str):
                if key_node.value in seen:
                    mark = key_node.start_mark
                    raise yaml.constructor.ConstructorError(None, None, f"'{key_node.value}' stands twice", mark)
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def config_path(script: str, config: str | Path) -> Path:
    """The YAML file that `config` names; arguments as for `load_config`.

    Raises:
        ConfigError: there is none.
    """
    if str(config).endswith((".yaml", ".yml")):
        path = Path(config)
        if not _is_file(path):
            raise ConfigError(f"no configuration file {path}")
        return path
    path = EXPERIMENTS / script / f"{config}.yaml"
    if not _is_file(path):
        names = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ConfigError(f"no configuration '{config}' in experiments/{script}; {_closest(str(config), names)}")
    return path


def _is_file(path: Path) -> bool:
    """`Path.is_file`, which raises for names that are too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def _read(path: Path) -> Iterator[tuple[str, Any]]:
    """The (key path, value) pairs of a YAML file."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8-sig"), _StrictLoader)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "the file is not UTF-8 text"
        raise ConfigError(f"{path}{where}: not valid YAML: {problem}") from error
    except _YAML_ERRORS as error:
        raise ConfigError(f"{path}: not valid YAML: {type(error).__name__}: {error}") from error
    if tree is None:
        return
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections such as MODEL, DATA, TRAIN, found {_kind(tree)}")
    yield from _leaves(tree, "", set(), path)


def _leaves(tree: dict, prefix: str, parents: set[int], path: Path) -> Iterator[tuple[str, Any]]:
    """Walk a tree down to its values; an anchor that contains itself is refused."""
    if id(tree) in parents:
        raise ConfigError(f"{path}: '{prefix.rstrip('.')}' contains itself through a YAML anchor")
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.", parents | {id(tree)}, path)
        else:
            yield f"{prefix}{key}", value


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override '{text}' is not of the form KEY.PATH=value, such as TRAIN.BATCH_SIZE=4")
    try:
        return key.strip(), yaml.safe_load(value)
    except _YAML_ERRORS as error:
        raise ConfigError(f"override '{text}': the value is not valid YAML") from error


def _set(effective: dict, known: dict, extensions: dict, key: str, value: Any, source: str) -> None:
    """Set one value after checking its key path, type and choice against the defaults."""
    if key in extensions:
        default = extensions[key]
    else:
        default = _lookup(known, key, list(_paths(known)) + list(extensions), source)
    value = _checked(value, default, key, source)
    _check_range(value, key, source)
    *parents, last = key.split(".")
    node = effective
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = value


def _fit_ratios(part: dict, key: str, overridden: set[str]) -> None:
    """Equal ratios for data sets that an override names, if those of the file are of another number.

    What a file says is left as it is: there a wrong number of ratios is a mistake, and not what nobody thought of.
    """
    names, ratios = f"{key}.DATASETS_NAME", f"{key}.DATASETS_RATIO"
    differ = len(part["DATASETS_NAME"]) != len(part["DATASETS_RATIO"])
    if differ and names in overridden and ratios not in overridden:
        part["DATASETS_RATIO"] = [1] * len(part["DATASETS_NAME"])


def _lookup(known: dict, key: str, paths: list[str], source: str) -> Any:
    """The default at a key path, which must be a value and not a section."""
    node: Any = known
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            # Test sets are a user's to name; the rest of the tree is not.
            if key.rpartition(".")[0] == "TEST.UPDATE_INTERVALS" and "UPDATE_INTERVALS" in known.get("TEST", {}):
                return [200]
            raise ConfigError(f"{source}: unknown key '{key}'; {_closest(key, paths)}")
        node = node[part]
    if isinstance(node, dict):
        raise ConfigError(f"{source}: '{key}' is a section; set a key in it, such as '{key}.{next(iter(node))}'")
    return node


def _checked(value: Any, default: Any, key: str, source: str) -> Any:
    """The value in the default's type, or a `ConfigError`."""
    if isinstance(value, str):
        value = _number(value, default)
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise ConfigError(f"{source}: '{key}' has more digits than a number here can have")
    if key in CHOICES:
        # `is` keeps False apart from 0.
        if not any(value is choice or (value == choice and type(value) is type(choice)) for choice in CHOICES[key]):
            names = ", ".join(str(choice) for choice in CHOICES[key])
            raise ConfigError(f"{source}: '{key}' must be one of {names}, not {_shown(value)}")
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, float) and number:
        return float(value)
    if number and ("JITTER" in key or "RATIO[" in key):  # the published defaults are whole, their use is not
        return value
    if type(value) is not type(default):
        raise ConfigError(f"{source}: '{key}' must be {_kind(default)}, not {_kind(value)} ({_shown(value)})")
    if isinstance(default, list):
        return [_checked(item, default[0], f"{key}[{i}]", source) for i, item in enumerate(value)]
    return value


def _check_range(value: Any, key: str, source: str) -> None:
    """Refuse numbers and lists that would fail later, or do something nobody means."""
    section = "TEST.UPDATE_INTERVALS"
    if key in LENGTHS and len(value) != LENGTHS[key]:
        raise ConfigError(f"{source}: '{key}' must have {LENGTHS[key]} values, not {len(value)}")
    if (key.startswith(section) or key == "DATA.MAX_SAMPLE_INTERVAL") and value == []:
        raise ConfigError(f"{source}: '{key}' must not be empty")
    low, high = RANGES.get(section if key.startswith(section) else key, (-math.inf, math.inf))
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, (int, float)) and not (low <= item <= high and math.isfinite(item)):
            limit = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ConfigError(f"{source}: '{key}' must be {limit}, not {item}")


def _number(text: str, default: Any) -> Any:
    """YAML 1.1 reads `1e-4` as text; where a number is wanted it is one."""
    if not isinstance(default, float):
        return text
    try:
        return float(text)
    except ValueError:
        return text


def _shown(value: Any) -> str:
    """A value for a message, shortened: anchors can make a text of a few lines into a list of billions."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 2, _LONGEST_VALUE, _LONGEST_VALUE
    try:
        return short.repr(value)
    except ValueError:
        return "a number of very many digits"  # Python does not print them


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    names = {int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a section"}
    return names.get(type(value), "nothing" if value is None else type(value).__name__)


def _present(tree: dict, key: str) -> bool:
    return key in set(_paths(tree))


def _paths(tree: dict, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _closest(word: str, words: Sequence[str]) -> str:
    """A hint that names the closest of the valid words, or all of them."""
    by_lower = {w.lower(): w for w in words}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    if match:
        return f"did you mean '{by_lower[match[0]]}'?"
    leaf = [w for w in words if w.rpartition(".")[2].lower() == word.rpartition(".")[2].lower()]
    if leaf:
        return f"did you mean '{leaf[0]}'?"
    return "valid: " + ", ".join(words[:12]) + (", …" if len(words) > 12 else "")
