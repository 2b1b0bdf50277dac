"""Result files: where they lie, what is in them.

`<results>/<tracker>/<config>/[<subfolder>/]<sequence>.txt` holds one box a frame, xywh as tab-separated
integers, the first being the given box; `<sequence>_time.txt` beside it holds the seconds of each frame,
the first being the initialisation.
"""

import glob
import hashlib
from pathlib import Path

import numpy as np

from lib.config.loader import experiment_name
from lib.test.evaluation.sequence import Sequence
from lib.utils.box_files import read_boxes
from lib.utils.errors import UserError
from lib.utils.files import write_text

WEIGHTS_NOTE = "weights.sha256"


def run_dir(results_dir: Path, tracker: str, config: str, run_id: int | None = None) -> Path:
    """Folder of one tracker's results: `<tracker>/<config>`, or `<tracker>/<config>_007` of run 7.

    A configuration given as a file is known by its name.
    """
    name = experiment_name(config)
    return results_dir / tracker / (name if run_id is None else f"{name}_{run_id:03d}")


def result_path(output_dir: Path, sequence: Sequence) -> Path:
    """Result file of a sequence under a tracker's folder."""
    return output_dir / sequence.subfolder / f"{sequence.name}.txt"


def time_path(output_dir: Path, sequence: Sequence) -> Path:
    """File of a sequence's seconds a frame."""
    return output_dir / sequence.subfolder / f"{sequence.name}_time.txt"


def to_integers(boxes: np.ndarray) -> np.ndarray:
    """Boxes as they stand in a result file: fractions are cut off, as in the published results."""
    return np.asarray(boxes, dtype=np.float64).astype(np.int64)


def write_result(output_dir: Path, sequence: Sequence, boxes: np.ndarray, seconds: np.ndarray) -> None:
    """Write boxes (N, 4) and seconds (N,). The box file comes last: where it is, the sequence is done."""
    write_text(time_path(output_dir, sequence), "".join(f"{value:.6f}\n" for value in seconds))
    lines = ("\t".join(map(str, box)) + "\n" for box in to_integers(boxes))
    write_text(result_path(output_dir, sequence), "".join(lines))


def remove_unfinished(output_dir: Path, sequence: Sequence) -> None:
    """Remove what a run left that was killed while it wrote the files of a sequence; nobody may be writing them."""
    for path in (result_path(output_dir, sequence), time_path(output_dir, sequence)):
        remove_temporaries(path.with_name(glob.escape(path.name)))


def remove_temporaries(pattern: Path) -> None:
    """Remove the temporary files that `atomic_path` has left of files by this name, which may be a glob's."""
    for path in pattern.parent.glob(f".{pattern.stem}.????????{pattern.suffix}"):
        path.unlink(missing_ok=True)


def read_result(path: Path) -> np.ndarray:
    """Predicted boxes (N, 4) of a result file.

    Raises:
        UserError: a line is not four numbers or has a negative size; the message names file and line.
    """
    boxes = read_boxes(path, allow_nan=False)
    negative = (boxes[:, 2:] < 0).any(axis=1)
    if negative.any():
        raise UserError(f"{path}, line {int(negative.argmax()) + 1}: a box with a negative size")
    return boxes


def read_seconds(path: Path) -> np.ndarray | None:
    """Seconds a frame (N,), None where the file is missing (results of other programs often lack it).

    Raises:
        UserError: a line is not a number.
    """
    if not path.is_file():
        return None
    try:
        return np.array([float(line) for line in path.read_text(encoding="utf-8-sig").split()])
    except ValueError as error:
        raise UserError(f"{path} does not hold seconds, one number a line: {error}") from error


def claim_for_weights(output_dir: Path, weights: Path, engine: str = "torch", precision: str = "fp32") -> None:
    """Note what the results of a folder are made with; results of other weights, or computed otherwise, never mix in.

    Raises:
        UserError: the folder's results are of other weights, engine or precision, or the weights cannot be read.
    """
    try:
        fingerprint = hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read the weights {weights}: {error.strerror}") from error
    note, way = output_dir / WEIGHTS_NOTE, f"{engine} {precision}"
    if not note.is_file():
        write_text(note, f"{fingerprint}  {weights.name}\n{way}\n")
        return
    first, *rest = note.read_text(encoding="utf-8").splitlines() or [""]
    before = rest[0] if rest else "torch fp32"  # the only way there was when notes had one line
    other = f"other weights than {weights}" if fingerprint not in first else f"{before}, not of {way}"
    if fingerprint not in first or before != way:
        raise UserError(f"{output_dir} holds results of {other}: move it away, or choose --runid or --results_dir")
