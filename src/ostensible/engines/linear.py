"""Linear layers whose weights lie in oneDNN's own order.

`F.linear` puts a weight into that order again at every call; keeping it there saves a fifth to a half of a decoding
step's products on a CPU. In bfloat16 the results are the same bits. The plain weight is dropped, so memory does not
grow.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

_mkldnn: Any = torch.ops.mkldnn  # pyright: ignore[reportUnknownMemberType] - made at run time


class PackedLinear(nn.Module):
    """A linear layer for inference on a CPU.

    Args:
        weight: [out_features, in_features].
        bias: [out_features] or None.
        rows: Usual batch size, a hint to oneDNN.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, rows: int) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._rows = rows
        self._bias = bias
        self.set_weight(weight)

    def set_weight(self, weight: Tensor) -> None:
        """Replace the weight [out_features, in_features]."""
        self._packed = _mkldnn._reorder_linear_weight(weight.contiguous(), self._rows)

    def forward(self, states: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        out: Tensor = _mkldnn._linear_pointwise(states, self._packed, self._bias, "none", [], "")
        return out


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this build and CPU have oneDNN kernels that agree with `F.linear`."""
    if device.type != "cpu" or dtype not in {torch.float32, torch.bfloat16} or not torch.backends.mkldnn.is_available():
        return False
    weight = torch.linspace(-1, 1, 64 * 48).view(48, 64).to(dtype)
    states = torch.linspace(-1, 1, 16 * 64).view(16, 64).to(dtype)
    try:
        found = PackedLinear(weight, None, rows=16)(states)
    except (RuntimeError, AttributeError):
        return False
    return torch.allclose(found.float(), nn.functional.linear(states, weight).float(), rtol=2e-2, atol=1e-4)


def pack_linears(model: nn.Module, *, rows: int) -> None:
    """Swap every `nn.Linear` of `model` for a `PackedLinear`."""
    modules: dict[str, nn.Module] = dict(cast(Any, model.named_modules()))
    for name, module in modules.items():
        if type(module) is not nn.Linear:
            continue
        bias = cast(Tensor | None, module.bias)
        parent, _, child = name.rpartition(".")
        packed = PackedLinear(module.weight.detach(), None if bias is None else bias.detach(), rows=rows)
        setattr(model.get_submodule(parent), child, packed)


def set_weight(layer: nn.Module, weight: Tensor) -> None:
    """Replace the weight of a linear layer, packed or not."""
    if isinstance(layer, PackedLinear):
        layer.set_weight(weight)
    else:
        layer.get_parameter("weight").data.copy_(weight)
