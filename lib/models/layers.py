"""Layers that several networks share, two of which change for inference (`lib.models.inference`)."""

from collections import OrderedDict

import torch
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters never change; (B, C, H, W) to the same.

    All four vectors are buffers: neither the optimiser nor the batch changes them.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # An ordinary batch norm also counts its batches. The count has no meaning here.
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = scale_and_shift(self)
        return x * scale.to(x.dtype).view(1, -1, 1, 1) + shift.to(x.dtype).view(1, -1, 1, 1)


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A batch norm at evaluation, frozen or not, as an affine map: y = scale * x + shift, each (C,)."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


class RepVGGBlock(nn.Module):
    """3x3 convolution, 1x1 convolution and (where shapes allow) identity, each normalised, summed, then ReLU.

    (B, Cin, H, W) to (B, Cout, H / stride, W / stride); Ding et al., "RepVGG", CVPR 2021. After training
    `lib.models.inference.fold_repvgg` replaces the branches by the convolution `rbr_reparam`, which computes the same.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, frozen_norm: bool = False) -> None:
        super().__init__()
        norm = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        self.rbr_identity = norm(outputs) if inputs == outputs and stride == 1 else None
        for name, size in (("rbr_dense", 3), ("rbr_1x1", 1)):
            conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
            self.add_module(name, nn.Sequential(OrderedDict(conv=conv, bn=norm(outputs))))

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "rbr_reparam"):
            return self.rbr_reparam(x).relu()
        branches = self.rbr_dense(x) + self.rbr_1x1(x)
        return (branches if self.rbr_identity is None else branches + self.rbr_identity(x)).relu()


class MLP(nn.Module):
    """Linear layers with ReLU between them; (..., inputs) to (..., outputs)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, num_layers: int) -> None:
        super().__init__()
        sizes = [inputs] + [hidden] * (num_layers - 1) + [outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)
