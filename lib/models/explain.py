"""What a network looks at: attention and score maps of one run, which hooks read from its modules."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from .heads import CenterPredictor
from .transformer import MultiheadAttention


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, list[np.ndarray]]]:
    """Give a dictionary that is filled while a STARK network runs once, for B samples. It must not be compiled.

    Attention and maps are probabilities. All arrays are float32. L are all tokens, the search region's S * S last.

    - `encoder`: a layer (B, Lq, L), the weights of its attention, mean over heads. Lq is L, or S * S for Lightning.
    - `decoder`: a layer (B, Nq, L), of the queries' attention to the encoder's tokens.
    - `corner_maps`: for B = 1 one array (2, Nq, S * S), top-left and bottom-right, with a corner head.
    - `centre_map` (1, S * S) and `cell_boxes` (1, S * S, 4), cxcywh in fractions of the crop, with the head CENTER.
    """
    found: dict[str, list[np.ndarray]] = {}

    def note_maps(head: nn.Module, inputs: tuple[Tensor, ...], output: dict[str, Tensor] | Tensor) -> None:
        if isinstance(head, CenterPredictor):
            found["centre_map"] = [_array((output["scores"] + head.prior).softmax(-1))]
            found["cell_boxes"] = [_array(output["cell_boxes"])]
        elif isinstance(output, dict):  # an MLP gives a box alone
            found["corner_maps"] = [_array(output["corner_maps"].float().softmax(-1))]

    def note_attention(part: str, module: MultiheadAttention, inputs: tuple[Tensor | None, ...]) -> None:
        (q, k, _), padding = module.project(*inputs[:3]), inputs[3] if len(inputs) > 3 else None
        logits = q.float() @ k.float().transpose(2, 3) / q.shape[-1] ** 0.5  # (B, heads, Lq, Lk)
        if padding is not None:
            if not padding.is_floating_point():
                padding = torch.zeros(padding.shape, device=padding.device).masked_fill(padding, -torch.inf)
            logits = logits + padding.float()[:, None, None]
        found.setdefault(part, []).append(_array(logits.softmax(-1).mean(1)))

    with ExitStack() as hooks:
        hooks.enter_context(model.box_head.register_forward_hook(note_maps))
        for name, module in model.transformer.named_modules():
            part = "decoder" if name.startswith("decoder") else "encoder"
            if isinstance(module, MultiheadAttention) and not (part == "decoder" and name.endswith("self_attn")):
                hooks.enter_context(module.register_forward_pre_hook(partial(note_attention, part)))
        yield found


def attention_from(encoder: list[np.ndarray], boxes: np.ndarray, cells: int) -> np.ndarray:
    """Attention of the `encoder` of `watched` from the tokens at boxes' centres: (B, S * S) float32, mean over layers.

    `boxes` are (B, 4) xyxy in fractions of the search region, a box of each sample; `cells` is S * S.
    """
    side = math.isqrt(cells)
    column, row = ((boxes[:, :2] + boxes[:, 2:]) / 2 * side).clip(0, side - 1).astype(int).T
    return np.mean(encoder, axis=0)[np.arange(len(boxes)), row * side + column - cells, -cells:]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
