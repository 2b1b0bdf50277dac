"""Networks rewritten for tracking: the same function, computed with fewer and larger operations.

What training needs apart is put together: norms go into the convolutions before them, the two corner towers become
one, and the decoder's single query attends without projecting every token to keys and values.
"""

import torch
from torch import Tensor, nn

from lib.models.attention import MultiheadAttention, logit_bias
from lib.models.heads import CORNERS, CornerPredictor
from lib.models.layers import FrozenBatchNorm2d, scale_and_shift
from lib.models.repvgg import fold_repvgg
from lib.models.transformer import Transformer, with_position

# Attributes of blocks that hold a convolution and the norm behind it.
_PAIRS = (
    *((f"conv{i}", f"bn{i}") for i in range(1, 4)),
    ("conv_stem", "bn0"),
    ("expand_conv", "bn0"),
    ("depthwise_conv", "bn1"),
    ("project_conv", "bn2"),
)


@torch.no_grad()
def prepare_for_tracking(model: nn.Module) -> nn.Module:
    """Rewrite a network in place and set it to evaluation; gives it back.

    Its outputs stay the same to rounding. It cannot be trained, nor its state dict be loaded, afterwards.
    """
    fold_norms(fold_repvgg(model.eval()))
    head = getattr(model, "box_head", None)
    if isinstance(head, CornerPredictor) and not head.shared:
        model.box_head = StackedCorners(head)
    transformer = getattr(model, "transformer", None)
    if isinstance(transformer, Transformer) and len(model.query_embed.weight) == 1:
        layers = transformer.decoder.layers
        if not any(layer.pre_norm or layer.multihead_attn.divide_norm for layer in layers):
            transformer.decoder = OneQueryDecoder(transformer.decoder)
    return model


def fold_norms(model: nn.Module) -> nn.Module:
    """Multiply every batch norm that follows a convolution into it, in place; identities stay where norms were."""
    for module in model.modules():
        children = dict(module.named_children())
        pairs = list(_PAIRS)
        if isinstance(module, nn.Sequential):
            names = list(children)
            pairs = list(zip(names, names[1:], strict=False))
        for conv, norm in pairs:
            if isinstance(children.get(conv), nn.Conv2d) and _is_norm(children.get(norm)):
                _fold(children[conv], children[norm])
                setattr(module, norm, nn.Identity())
    return model


class StackedCorners(nn.Module):
    """The two towers of a `CornerPredictor` as one: their kernels side by side, in groups after the first layer.

    Args:
        head: of kind `CORNER`, in evaluation, its norms folded.
    """

    def __init__(self, head: CornerPredictor) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(1, 5):
            pair = [getattr(head, f"conv{i}_{corner}")[0] for corner in CORNERS]
            layers += [_stacked(pair, groups=1 if i == 1 else 2), nn.ReLU(inplace=True)]
        layers.append(_stacked([getattr(head, f"conv5_{corner}") for corner in CORNERS], groups=2))
        self.tower = nn.Sequential(*layers)
        self.register_buffer("points", head.points, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As `CornerPredictor.forward`."""
        logits = self.tower(x).flatten(2).float()  # (B, 2, S * S)
        return (logits.softmax(dim=-1) @ self.points).flatten(1), logits.unbind(1)


class OneQueryDecoder(nn.Module):
    """A decoder with one learned query: post-norm, without dropout.

    Among one query attention is the value itself. Towards the memory the query is brought to the tokens' space and
    compared with them there, and the tokens are averaged before they are projected: of every token's key and value
    nothing is computed.

    Args:
        decoder: the stack of `lib.models.transformer.Transformer`.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.layers, self.norm = decoder.layers, decoder.norm

    def forward(
        self, target: Tensor, memory: Tensor, padding: Tensor | None, position: Tensor | None, query_position: Tensor
    ) -> Tensor:
        """Targets (B, 1, C) look at memory (B, L, C); gives (B, 1, C)."""
        keys = with_position(memory, position)
        for layer in self.layers:
            target = layer.norm1(target + _value(layer.self_attn, target))
            found = _look(layer.multihead_attn, target + query_position, keys, memory, padding)
            target = layer.norm2(target + found)
            target = layer.norm3(target + layer.linear2(layer.linear1(target).relu()))
        return self.norm(target)


def _value(attention: MultiheadAttention, x: Tensor) -> Tensor:
    """What attention gives where there is one token to attend to, x (B, 1, C)."""
    weight, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
    return attention.out_proj(nn.functional.linear(x, weight, bias))


def _look(attention: MultiheadAttention, query: Tensor, keys: Tensor, values: Tensor, padding: Tensor | None) -> Tensor:
    """Attention of one query (B, 1, C) to tokens (B, L, C), in another order of products.

    The keys' bias adds the same to all logits of a head, which the softmax takes away again.
    """
    batch, _, dim = query.shape
    heads = attention.heads
    (query_weight, key_weight, value_weight), (query_bias, _, value_bias) = (
        attention.in_proj_weight.chunk(3),
        attention.in_proj_bias.chunk(3),
    )
    projected = nn.functional.linear(query, query_weight, query_bias).view(batch, heads, 1, dim // heads)
    in_tokens_space = (projected * (dim // heads) ** -0.5) @ key_weight.view(heads, dim // heads, dim)  # (B, H, 1, C)
    logits = in_tokens_space[:, :, 0] @ keys.transpose(1, 2)  # (B, H, L)
    if padding is not None:
        logits = logits + logit_bias(padding, logits.dtype)[:, None]
    mean = logits.softmax(dim=-1) @ values  # (B, H, C)
    value = mean[:, :, None] @ value_weight.view(heads, dim // heads, dim).transpose(1, 2)  # (B, H, 1, D)
    return attention.out_proj(value.reshape(batch, 1, dim) + value_bias)


def _is_norm(module: nn.Module | None) -> bool:
    return isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d)


def _fold(conv: nn.Conv2d, norm: nn.Module) -> None:
    """Make a convolution compute what it and the norm behind it did."""
    scale, shift = scale_and_shift(norm)
    conv.bias = nn.Parameter(shift if conv.bias is None else shift + conv.bias * scale, requires_grad=False)
    conv.weight = nn.Parameter(conv.weight * scale.view(-1, 1, 1, 1), requires_grad=False)


def _stacked(convs: list[nn.Conv2d], groups: int) -> nn.Conv2d:
    """Convolutions of one shape as one: on the same input, or with `groups` each on its own."""
    first = convs[0]
    inputs, outputs = first.in_channels * groups, first.out_channels * len(convs)
    stacked = nn.Conv2d(inputs, outputs, first.kernel_size, first.stride, first.padding, groups=groups)
    stacked.weight = nn.Parameter(torch.cat([conv.weight for conv in convs]), requires_grad=False)
    stacked.bias = nn.Parameter(torch.cat([conv.bias for conv in convs]), requires_grad=False)
    return stacked
