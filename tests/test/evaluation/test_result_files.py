"""Places and notes of results, and what is refused in them."""

from functools import partial

import pytest

from lib.test.evaluation.result_files import read_result, read_seconds, refuse_to_mix, run_dir
from lib.utils.errors import UserError


def test_results_stay_in_their_folder(tmp_path):
    for names in (("still", "../x", 1), ("../still", "x", None), ("a", "b", -1)):
        with pytest.raises(UserError, match="cannot name a folder of results|counted from 0"):
            run_dir(tmp_path, *names)
    assert run_dir(tmp_path, "stark_s", "my/baseline.yaml", 7) == tmp_path / "stark_s" / "baseline_007"


def test_what_is_no_box_and_what_is_not_a_time_is_refused(tmp_path):
    path = tmp_path / "a_time.txt"
    for text in ("nan\n", "0.1\n-1\n", "0.1\ninf\n", "a\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="a_time.txt does not hold seconds"):
            read_seconds(path)
    path.write_text("1 2 3 4\n1 2 3 -4\n")
    with pytest.raises(UserError, match="a_time.txt, line 2: a box with a negative size"):
        read_result(path)


def test_results_of_other_runs_are_not_mixed(tmp_path):
    output, weights = tmp_path / "out", tmp_path / "a.pth.tar"
    weights.write_bytes(b"one")
    refuse = partial(refuse_to_mix, output, [weights], "torch fp32", {"TEST.SEARCH_FACTOR": 5.0})
    refuse_to_mix(output, [weights], "onnx fp32", {})
    refuse()  # the other one left no result
    (output / "some_set").mkdir()
    (output / "some_set" / "a.txt").write_text("1\t2\t3\t4\n")
    refuse()
    with pytest.raises(UserError, match=r"\(TEST.WINDOW None, not 0.5; engine torch fp32, not onnx fp32\): .* --runid"):
        refuse_to_mix(output, [weights], "onnx fp32", {"TEST.SEARCH_FACTOR": 5.0, "TEST.WINDOW": 0.5})
    # Notes of earlier versions have one line or two, and no options.
    digest = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    note, old_note = output / "run.json", output / "weights.sha256"
    note.rename(tmp_path / "note")
    old_note.write_text(f"{digest}  a.pth.tar\n")
    refuse()
    old_note.write_text(f"{digest}  a.pth.tar\nonnx fp32\n")
    with pytest.raises(UserError, match="engine onnx fp32, not torch fp32"):
        refuse()
    (tmp_path / "note").rename(note)
    weights.write_bytes(b"two")
    with pytest.raises(UserError, match=f"weights {digest}, not .*"):
        refuse()
    for damaged in ("[1]", "{"):
        note.write_text(damaged)
        with pytest.raises(UserError, match=r"run\.json is no note of a run .*: move it away"):
            refuse()
