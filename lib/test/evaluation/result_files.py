"""Result files.

`<results>/<tracker>/<config>/[<subfolder>/]<sequence>.txt` holds one box a frame, xywh as tab-separated integers; the
first is the given box. `<sequence>_time.txt` beside it holds the seconds of each frame; the first is for `initialize`.
"""

import glob
import json
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from pathlib import Path

import numpy as np

from ...config import experiment_name
from ...data.box_files import read_boxes
from ...data.sequence import Sequence
from ...utils.checkpoint_files import content_digest
from ...utils.errors import UserError
from ...utils.files import read_text, write_text
from ...utils.workspace import provenance

NOTE = "run.json"


def run_dir(results_dir: Path, tracker: str, config: str, run_id: int | None = None) -> Path:
    """Folder of one tracker's results: `<tracker>/<config>`, or `<tracker>/<config>_007` of run 7.

    Raises UserError where the name leads out of `results_dir`, or the run's number is negative.
    """
    name = experiment_name(config)
    if ".." in (place := Path(tracker, name)).parts or place.is_absolute():
        raise UserError(f"{tracker}:{name} cannot name a folder of results: expected a tracker and a configuration")
    if run_id is not None and run_id < 0:
        raise UserError(f"run {run_id}: runs are counted from 0")
    return results_dir / tracker / (name if run_id is None else f"{name}_{run_id:03d}")


def result_path(output_dir: Path, sequence: Sequence) -> Path:
    return output_dir / sequence.subfolder / f"{sequence.name}.txt"


def time_path(output_dir: Path, sequence: Sequence) -> Path:
    return output_dir / sequence.subfolder / f"{sequence.name}_time.txt"


def write_result(output_dir: Path, sequence: Sequence, boxes: np.ndarray, seconds: np.ndarray) -> None:
    """Write boxes (N, 4) and seconds (N,). The box file comes last: where it exists, the sequence is finished."""
    write_text(time_path(output_dir, sequence), "".join(f"{value:.6f}\n" for value in seconds))
    lines = ("\t".join(str(int(value)) for value in box) + "\n" for box in boxes)  # cut off, as in published results
    write_text(result_path(output_dir, sequence), "".join(lines))


def remove_unfinished(output_dir: Path, sequence: Sequence) -> None:
    """Remove the temporary files of `atomic_path` that a killed run left of a sequence."""
    for path in (result_path(output_dir, sequence), time_path(output_dir, sequence)):
        for temporary in path.parent.glob(f".{glob.escape(path.stem)}.????????{path.suffix}"):
            temporary.unlink(missing_ok=True)


def read_result(path: Path) -> np.ndarray:
    """Predicted boxes (N, 4) of a result file; a UserError names a line that is not four numbers or no size."""
    boxes = read_boxes(path, allow_nan=False)
    if (negative := (boxes[:, 2:] < 0).any(axis=1)).any():
        raise UserError(f"{path}, line {int(negative.argmax()) + 1}: a box with a negative size")
    return boxes


def read_seconds(path: Path) -> np.ndarray | None:
    """Seconds a frame (N,), None where the file is missing, as in results of many other programs.

    GOT-10k's toolkit writes one column a repeated run; the first one counts. Raises UserError for any other text.
    """
    if not path.is_file():
        return None
    try:
        seconds = np.array([float(line.partition(",")[0]) for line in read_text(path).split()])
        if not (np.isfinite(seconds) & (seconds >= 0)).all():
            raise ValueError("a number is negative or not finite")
    except ValueError as error:
        raise UserError(f"{path} does not hold seconds, one number a line: {error}") from error
    return seconds


def refuse_to_mix(
    output_dir: Path, weights: SequenceOf[Path], engine: str, options: Mapping[str, object], device: str = ""
) -> None:
    """Note how a folder's results are made, so that results of others never mix in; a UserError where they would.

    `engine` has its precision, such as `torch fp32`; `options` are those that decide results, by their key paths.
    """
    digest = " ".join(map(content_digest, weights))
    now = json.loads(json.dumps({"weights": digest, "engine": engine, **options}))
    note, old_note = output_dir / NOTE, output_dir / "weights.sha256"  # which earlier versions wrote
    before, made_by = None, {}  # nobody knows what made results without a note
    if not any(output_dir.rglob("*.txt")):  # a failed start leaves a note and no result
        made_by = {"weights_file": " ".join(map(str, weights)), "device": device, **provenance()}
    elif note.is_file():
        before = read_note(output_dir)
        before.pop("made_by", None)
    elif old_note.is_file():
        first, second = [*read_text(old_note).splitlines(), "torch fp32"][:2]
        before = {**now, "weights": first.split()[0], "engine": second}
    if before is None:
        write_text(note, json.dumps({**now, "made_by": made_by}, indent=1))
        return
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        said = "; ".join(f"{key} {before.get(key)}, not {now.get(key)}" for key in changed)
        raise UserError(f"{output_dir} holds other results ({said}): move it away, or choose --runid or --results_dir")


def read_note(output_dir: Path) -> dict:
    """How a folder's results are made, as `refuse_to_mix` wrote it; empty for those of other programs."""
    note = output_dir / NOTE
    if not note.is_file():
        return {}
    try:
        return dict(json.loads(read_text(note)))
    except (ValueError, TypeError) as error:
        raise UserError(f"{note} is no note of a run ({error}): move it away") from error
