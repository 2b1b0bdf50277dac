"""Configurations: the defaults, a YAML file over them, and overrides over that."""

from .loader import ConfigError, load_config, option

__all__ = ["ConfigError", "load_config", "option"]
