"""Starting the processes of a training on several devices."""

import subprocess
import sys


def launch(arguments: list[str], processes: int) -> int:
    """Run `tracking/train.py` in several processes of this machine with torchrun.

    Args:
        arguments: the command line of one process, script first.
        processes: one a GPU; on a machine without GPUs they share the CPU and talk through gloo.

    Returns:
        torchrun's exit status, not 0 when any process failed.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.run([*command, *arguments], check=False).returncode
