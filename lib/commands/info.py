"""The command that says what this installation has."""

import platform
from argparse import ArgumentParser
from collections.abc import Sequence

from .. import __version__
from ..test.tracker import SCRIPT_OF, find_weights, shipped_graphs
from ..test.tracker.engines import PRECISIONS_OF, installed
from ..utils.checkpoint_files import CheckpointError
from ..utils.device import available_cpus, available_devices
from ..utils.workspace import EXPERIMENTS, PACKAGE, package_version, workspace

_PACKAGES = ("numpy", "opencv-contrib-python-headless", "onnxruntime", "openvino", "nncf", "torch", "torchvision")


def info(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Print versions, devices, engines, and the trackers whose weights were found."""
    parser.parse_args(arguments)
    place, engines = workspace("test"), [name for name in installed() if name != "auto"]
    devices = available_devices() if "torch" in engines else ["cpu"]
    rows = {"stark-tracker": f"{__version__} in {PACKAGE}", "python": platform.python_version()}
    rows |= {name: package_version(name) or "not installed" for name in _PACKAGES}
    rows["devices"] = f"{', '.join(devices)}; {available_cpus()} processor cores"
    rows["engines"] = ", ".join(f"{name} ({', '.join(PRECISIONS_OF[name])})" for name in engines)
    rows |= {"data sets": place.data_dir, "saved runs": place.save_dir}
    print("\n".join(f"{name:<31}{value}" for name, value in rows.items()))
    print("weights")
    for name, script in SCRIPT_OF.items():
        for config in sorted(path.stem for path in (EXPERIMENTS / script).glob("*.yaml")):
            try:
                found = str(find_weights(script, config, announce=False))
            except CheckpointError:
                continue
            graphs = " and graphs that need no PyTorch" if shipped_graphs(script, config).is_dir() else ""
            print(f"  {name} {config}: {found}{graphs}")
