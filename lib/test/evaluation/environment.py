"""The type of the settings that the local file of testing makes (`lib.utils.workspace` reads them)."""


class EnvSettings:
    """Paths as attributes: `save_dir`, `results_path`, `lasot_path`, … What is not set, or empty, keeps its default."""
