"""Writes the toolkit's workspaces: `python -m lib.test.vot20.workspaces` makes those in `external/` anew."""

import os
from pathlib import Path

from lib.test.vot20.variants import VARIANTS, Variant
from lib.utils.errors import run_command
from lib.utils.files import write_text
from lib.utils.workspace import REPOSITORY

_CONFIG = """\
# {label} on {title}. Paths are relative to this file.
registry:
- ./trackers.ini
stack: {stack}
sequences: {sequences}
"""

_TRACKERS = """\
# The toolkit runs the command with its own Python. Paths are relative to this file.
[{identifier}]
label = {label}
protocol = traxpython
command = lib.test.vot20.{identifier}
paths = {root}
timeout = 300
"""

_SCRIPT = """\
#!/usr/bin/env bash
# {label} on {title}: bash exp.sh [--experiments NAMES] [other options of `vot evaluate`]
# It goes on where it was stopped. The sequences are downloaded the first time.
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
root=$(cd {root} && pwd)
if [ -x "$root/.venv/bin/python" ]; then export PATH="$root/.venv/bin:$PATH"; fi
export PYTHONPATH="$root${{PYTHONPATH:+:$PYTHONPATH}}"
vot evaluate --workspace . {identifier} "$@"
vot analysis --workspace . {identifier}
# Archive of the results for a submission:
# vot pack --workspace . {identifier}
"""


def workspace_files(variant: Variant, folder: Path, stack: str | None = None, sequences: str | None = None) -> dict:
    """The files of a workspace, by name.

    Args:
        variant: the tracker and its challenge.
        folder: where the workspace is to lie; the paths in the files start there.
        stack: a stack of the toolkit or a path, in place of the challenge's.
        sequences: folder of the sequences, in place of the challenge's in `data/`.
    """
    challenge = variant.challenge
    root = Path(os.path.relpath(REPOSITORY, folder)).as_posix()
    values = {
        "identifier": variant.identifier,
        "label": variant.label,
        "title": challenge.title,
        "stack": stack or challenge.stack,
        "sequences": sequences or f"{root}/data/{challenge.sequences}",
        "root": root,
    }
    templates = {"config.yaml": _CONFIG, "trackers.ini": _TRACKERS, "exp.sh": _SCRIPT}
    return {name: text.format(**values) for name, text in templates.items()}


def write_workspace(variant: Variant, folder: Path, stack: str | None = None, sequences: str | None = None) -> None:
    """Write a workspace; the arguments are those of `workspace_files`. Results in the folder stay."""
    for name, text in workspace_files(variant, folder, stack, sequences).items():
        write_text(folder / name, text)
    (folder / "exp.sh").chmod(0o755)


def published_folder(variant: Variant) -> Path:
    """Where the workspace of a variant lies in this repository."""
    return REPOSITORY / "external" / variant.challenge.folder / variant.identifier


def main() -> None:
    """Write all workspaces of this repository."""
    for variant in VARIANTS.values():
        write_workspace(variant, published_folder(variant))


if __name__ == "__main__":
    run_command(main)
