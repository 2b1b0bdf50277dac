"""What OpenVINO does to the process it runs in."""

import subprocess
import sys

import numpy as np
import openvino
import openvino.opset13 as operations

from lib.test.tracker.engines.openvino import save_model
from lib.utils.workspace import REPOSITORY

DROPPED_IN_ANOTHER_THREAD = """
import gc, os, signal, sys, threading
from pathlib import Path
from lib.test.tracker.engines.openvino import open_model

kept = [open_model(Path(sys.argv[1]), "f32")]

def drop():
    kept.clear()
    gc.collect()

thread = threading.Thread(target=drop)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda number, _: print("heard", number))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_signal_is_heard_after_a_network_was_dropped_by_another_thread(tmp_path):
    x = operations.parameter([1, 3], np.float32)
    save_model(openvino.Model([operations.relu(x)], [x]), tmp_path / "relu.xml")
    command = [sys.executable, "-c", DROPPED_IN_ANOTHER_THREAD, str(tmp_path / "relu.xml")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard 2\n"), done.stderr
