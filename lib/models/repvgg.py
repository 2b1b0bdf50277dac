"""RepVGG (Ding et al., CVPR 2021): three branches while training, one 3x3 convolution after folding."""

from torch import Tensor, nn

from lib.models.layers import FrozenBatchNorm2d

# RepVGG-A0: blocks in stages 1 to 4, and the factor of the base widths 64, 64, 128, 256.
A0_BLOCKS = (2, 4, 14, 1)
A0_WIDTH = 0.75


class RepVGGBlock(nn.Module):
    """3x3 convolution, 1x1 convolution and (where shapes allow) identity, each normalised, summed, then ReLU.

    (B, Cin, H, W) to (B, Cout, H / stride, W / stride). `lib.models.inference.fold_repvgg` replaces the branches by the
    single convolution `rbr_reparam`, which computes the same.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, frozen_norm: bool = False) -> None:
        super().__init__()
        norm = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        self.rbr_identity = norm(outputs) if inputs == outputs and stride == 1 else None
        self.rbr_dense = _conv_norm(inputs, outputs, 3, stride, norm)
        self.rbr_1x1 = _conv_norm(inputs, outputs, 1, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "rbr_reparam"):
            return self.rbr_reparam(x).relu()
        branches = self.rbr_dense(x) + self.rbr_1x1(x)
        return (branches if self.rbr_identity is None else branches + self.rbr_identity(x)).relu()


class RepVGGA0(nn.Module):
    """RepVGG-A0 to stage 3: (B, 3, H, W) to (B, 192, H / 16, W / 16)."""

    channels = 192

    def __init__(self, last_stage_blocks: int = A0_BLOCKS[2], frozen_norm: bool = True) -> None:
        super().__init__()
        widths = [int(base * A0_WIDTH) for base in (64, 64, 128, 256)]
        self.stage0 = RepVGGBlock(3, widths[0], 2, frozen_norm)
        for stage, blocks in enumerate((A0_BLOCKS[0], A0_BLOCKS[1], last_stage_blocks), start=1):
            first = RepVGGBlock(widths[stage - 1], widths[stage], 2, frozen_norm)
            rest = (RepVGGBlock(widths[stage], widths[stage], 1, frozen_norm) for _ in range(blocks - 1))
            self.add_module(f"stage{stage}", nn.Sequential(first, *rest))

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.children():
            x = stage(x)
        return x


def _conv_norm(inputs: int, outputs: int, size: int, stride: int, norm: type[nn.Module]) -> nn.Sequential:
    branch = nn.Sequential()
    branch.add_module("conv", nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False))
    branch.add_module("bn", norm(outputs))
    return branch
