"""STARK, a visual object tracker (docs/api.md). Installed, the package is called `stark_tracker`."""

__version__ = "0.1.0"
