"""The ResNet is torchvision's, by names and numbers."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet

from lib.models.layers import FrozenBatchNorm2d
from lib.models.resnet import DEPTHS, ResNetBody


@pytest.mark.parametrize(("name", "dilation"), [*((name, False) for name in DEPTHS), ("resnet50", True)])
def test_names_and_outputs_are_torchvisions(name, dilation):
    torch.manual_seed(0)
    full = getattr(resnet, name)(
        weights=None, norm_layer=FrozenBatchNorm2d, replace_stride_with_dilation=[False, dilation, False]
    )
    for norm in (module for module in full.modules() if isinstance(module, FrozenBatchNorm2d)):
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        torch.nn.init.normal_(norm.bias)
    theirs = {key: value for key, value in full.state_dict().items() if not key.startswith(("layer4", "fc"))}
    body = ResNetBody(name, dilation)
    assert list(body.state_dict()) == list(theirs)
    body.load_state_dict(theirs)
    image = torch.randn(1, 3, 64, 96)
    expected = full.maxpool(full.relu(full.bn1(full.conv1(image))))
    expected = full.layer3(full.layer2(full.layer1(expected)))
    assert expected.shape[1] == body.channels
    assert torch.allclose(body(image), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_a_tracker_does_without_torchvision():
    """It would take 170 MB of every tracking process, and two seconds of its start."""
    code = "import sys; import lib.test.tracker; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]).returncode == 0
