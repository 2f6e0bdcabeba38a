"""The networks of the built-in models.

This module imports torch, so models import it inside `build`. The networks are `nn.Sequential`s of
torch's own modules, which the training step knows to draw no random numbers besides dropout.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

RESNET50_FEATURES = 2048  # Channels after the last stage.


def multilayer_perceptron(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Return `flatten`, `hidden1`, `relu1`, ... and `head`, from (B, C, H, W) to (B, outputs)."""
    layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
    layers.update(_linear_layers(inputs, hidden, outputs, name="head"))
    return nn.Sequential(layers)


def simple_cnn(
    widths: Sequence[int],
    hidden: Sequence[int],
    dropout: float,
    pool: int,
    *,
    channels: int,
    outputs: int,
    size: tuple[int, int],
) -> nn.Sequential:
    """Return `block1`, `block2`, ..., `pool`, `flatten`, `hidden1`, ... and `head`."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (before, after) in enumerate(pairwise([channels, *widths]), start=1):
        layers[f"block{number}"] = _block(before, after)
    height, width = (edge >> len(widths) for edge in size)
    grid = min(pool, height), min(pool, width)
    layers["pool"] = _grid_pool((height, width), grid)
    layers["flatten"] = nn.Flatten()
    inputs = widths[-1] * grid[0] * grid[1]
    layers.update(_linear_layers(inputs, hidden, outputs, dropout, name="head"))
    return nn.Sequential(layers)


def resnet50(
    hidden: Sequence[int], dropout: float, *, channels: int, outputs: int
) -> nn.Sequential:
    """Return torchvision's ResNet50 as a sequence, with `flatten` and another `head`."""
    from torchvision import models  # The other networks do without this slow import.

    layers = OrderedDict(models.resnet50(weights=None, num_classes=outputs).named_children())
    if channels != 3:
        layers["conv1"] = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(layers["conv1"].weight, mode="fan_out", nonlinearity="relu")
    del layers["fc"]
    layers["flatten"] = nn.Flatten()
    head = _linear_layers(RESNET50_FEATURES, hidden, outputs, dropout, name="output")
    layers["head"] = nn.Sequential(head)
    return nn.Sequential(layers)


def resnet9(
    stem: str, widths: Sequence[int], logit_scale: float, *, channels: int, outputs: int
) -> nn.Sequential:
    """Return `stem`, `layer1`, `layer2`, `layer3`, `pool`, `flatten`, `head` and `scale`."""
    first, second, third = widths
    if stem == "cosine":
        start, width = _cosine_stem(channels), 2 * channels * 4
    else:
        start, width = _conv_norm_relu(channels, first // 2 or 1), first // 2 or 1
    return nn.Sequential(
        OrderedDict(
            stem=start,
            layer1=_residual_layer(width, first),
            layer2=_conv_norm_relu(first, second, pool=True),
            layer3=_residual_layer(second, third),
            pool=nn.AdaptiveMaxPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(third, outputs),
            scale=Scale(logit_scale),
        )
    )


class CosineTransform(nn.Module):
    """The orthonormal discrete cosine transform (DCT-II) of each 2x2 patch and its channels.

    Maps (B, C, H, W) to (B, 4C, H + 1, W + 1): patches overlap, with zeros around the image.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        across, along = _cosines(channels), _cosines(2)
        basis = torch.einsum("uc,vy,wx->uvwcyx", across, along, along)
        self.basis: Tensor
        self.register_buffer("basis", basis.reshape(-1, channels, 2, 2), persistent=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """Return the transform."""
        return nn.functional.conv2d(input, self.basis, padding=1)


class PositiveAndNegative(nn.Module):
    """Concatenate the positive and the negative parts of all channels.

    Concatenated ReLU: W. Shang et al., ICML 2016.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """Return (B, 2C, H, W), at least 0."""
        return torch.cat([input, -input], dim=1).relu()


class Residual(nn.Sequential):
    """Add the result of two convolutions, each with normalisation and a ReLU, to their input."""

    def __init__(self, width: int) -> None:
        super().__init__(_conv_norm_relu(width, width), _conv_norm_relu(width, width))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """Return features (B, width, H, W)."""
        output: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return input + output


class Scale(nn.Module):
    """Multiply by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """Return the product."""
        return input * self.factor


class Biases(nn.Module):
    """Add a bias per threshold to scores (B, 1): (B, outputs), falling from 1 at first."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.arange(outputs, 0, -1) / outputs)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the outputs."""
        return scores + self.bias


def add_biases(base: nn.Module, outputs: int) -> nn.Sequential:
    """Return `base`, which has one output, and `biases`."""
    return nn.Sequential(OrderedDict(base=base, biases=Biases(outputs)))


def _linear_layers(
    inputs: int, hidden: Sequence[int], outputs: int, dropout: float = 0.0, *, name: str
) -> OrderedDict[str, nn.Module]:
    """Return a linear layer, a ReLU and a dropout per hidden width, and a last linear layer.

    Without hidden layers, a single dropout precedes the last layer.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (before, after) in enumerate(pairwise([inputs, *hidden]), start=1):
        layers[f"hidden{number}"] = nn.Linear(before, after)
        layers[f"relu{number}"] = nn.ReLU()
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
    if dropout and not hidden:
        layers["dropout"] = nn.Dropout(dropout)
    layers[name] = nn.Linear((inputs, *hidden)[-1], outputs)
    return layers


def _block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, width, 3, padding=1, bias=False),  # The norm has a bias.
            norm=nn.BatchNorm2d(width),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
        )
    )


def _cosine_stem(channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            cosine=CosineTransform(channels),
            norm=nn.BatchNorm2d(4 * channels, affine=False),
            relu=PositiveAndNegative(),
        )
    )


def _cosines(n: int) -> Tensor:
    """Return the matrix (n, n) of the orthonormal DCT-II: a row per frequency."""
    positions = torch.arange(n, dtype=torch.float64) + 0.5
    frequencies = torch.arange(n, dtype=torch.float64)[:, None]
    matrix = torch.cos(torch.pi / n * frequencies * positions)
    return nn.functional.normalize(matrix, dim=1).float()


def _residual_layer(channels: int, width: int) -> nn.Sequential:
    down = _conv_norm_relu(channels, width, pool=True)
    return nn.Sequential(OrderedDict(down=down, residual=Residual(width)))


def _conv_norm_relu(channels: int, width: int, *, pool: bool = False) -> nn.Sequential:
    """Return a 3x3 convolution, 2x2 max pooling if wanted, batch normalisation and a ReLU."""
    layers = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(channels, width, 3, padding=1, bias=False)  # The norm has a bias.
    )
    if pool:
        layers["pool"] = nn.MaxPool2d(2)
    layers.update(norm=nn.BatchNorm2d(width), relu=nn.ReLU())
    return nn.Sequential(layers)


def _grid_pool(size: tuple[int, int], grid: tuple[int, int]) -> nn.Module:
    """Return average pooling over a grid of equal windows that cover all, overlapping if needed.

    If the grid divides the size, it equals torch's adaptive average pooling. That one supports no
    other case on Apple GPUs, and its gradient on CUDA is summed in no fixed order.
    """
    stride = size[0] // grid[0], size[1] // grid[1]
    window = [edge - (n - 1) * step for edge, n, step in zip(size, grid, stride, strict=True)]
    return nn.AvgPool2d((window[0], window[1]), stride)
