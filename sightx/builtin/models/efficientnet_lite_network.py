"""The network EfficientNet-Lite0: inverted residual blocks (M. Tan and Q. V. Le, 2019).

Unlike EfficientNet-B0 it has no squeeze-and-excitation and ReLU6 as its activation, so that it
computes well on small devices. This module imports torch, so the model imports it inside `build`.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

_EPSILON, _MOMENTUM = 1e-3, 0.01  # of batch normalisation, as in the published network
_STEM, _WIDTH = 32, 1280
_STAGES = (  # expansion, kernel, stride of the first block, channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
BLOCKS = sum(stage[-1] for stage in _STAGES)


class SameConv2d(nn.Conv2d):
    """A convolution whose output has the input's size divided by the stride, rounded up.

    If the padding is odd, the last row and column get the additional zeros, as in TensorFlow.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """Return the convolution of (B, C, H, W)."""
        borders = []
        for length, kernel, stride in zip(
            input.shape[:-3:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            borders += [total // 2, total - total // 2]
        return super().forward(pad(input, borders))


class InvertedResidual(nn.Sequential):
    """Expand channels, convolve each one, and project them; the input is added if it fits."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        wide = before * expansion
        layers = OrderedDict[str, nn.Module]()
        if expansion != 1:
            layers["expand"] = _layer(before, wide, 1)
        layers["depthwise"] = _layer(wide, wide, kernel, stride, groups=wide)
        layers["project"] = _layer(wide, after, 1, activation=False)
        super().__init__(layers)
        self._is_residual = stride == 1 and before == after

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """Return features of (B, C, H, W)."""
        output: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return input + output if self._is_residual else output


def efficientnet_lite0(*, channels: int, outputs: int, dropout: float) -> nn.Sequential:
    """Return `stem`, `block1` to `block16`, `top`, `pool`, `flatten`, `dropout` and `head`."""
    layers = OrderedDict[str, nn.Module](stem=_layer(channels, _STEM, 3, 2))
    before = _STEM
    for expansion, kernel, stride, after, blocks in _STAGES:
        for number in range(blocks):
            first = stride if number == 0 else 1
            block = InvertedResidual(before, after, expansion, kernel, first)
            layers[f"block{len(layers)}"] = block
            before = after
    layers["top"] = _layer(before, _WIDTH, 1)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["dropout"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(_WIDTH, outputs)
    return nn.Sequential(layers)


def load_in_order(module: nn.Module, state: dict[str, Tensor], *, head: str) -> None:
    """Load tensors of other names, in their order, into all of a network but its head.

    Raises ValueError if a shape differs.
    """
    own = {name: v for name, v in module.state_dict().items() if not name.startswith(head)}
    for (name, value), given in zip(own.items(), state.values(), strict=True):
        if value.shape != given.shape:
            raise ValueError(f"{name} is {tuple(value.shape)}, not {tuple(given.shape)}")
        with torch.no_grad():
            value.copy_(given)


def _layer(
    before: int,
    after: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    """Return a convolution with batch normalisation, and ReLU6 unless `activation` is False."""
    layers = OrderedDict[str, nn.Module](
        conv=SameConv2d(before, after, kernel, stride, groups=groups, bias=False),
        norm=nn.BatchNorm2d(after, eps=_EPSILON, momentum=_MOMENTUM),
    )
    if activation:
        layers["relu"] = nn.ReLU6()
    return nn.Sequential(layers)
