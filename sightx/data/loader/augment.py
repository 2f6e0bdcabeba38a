"""Augmentation of a batch: random draws on the host, computation where the images are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

from sightx.registry.components import call_declared

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from sightx.registry.kinds import Augment


def augment(
    images: Tensor, targets: Tensor, components: Sequence[Augment], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return augmented images, float (n, C, H, W) in [0, 1], and targets.

    Every component draws from `rng` in the order of the chain. All geometry comes first: the
    matrices are composed and the pixels sampled once. Then each component's `apply` runs, in order.
    """
    n, size = len(images), tuple(images.shape[-2:])
    drawn = [(component, call_declared(component.draw, n=n, rng=rng)) for component in components]
    matrices = [
        call_declared(component.matrix, params=params, size=size) for component, params in drawn
    ]
    if given := [matrix for matrix in matrices if matrix is not None]:
        images = transform(images, compose(given))
    for component, params in drawn:
        images, targets = call_declared(
            component.apply, images=images, targets=targets, params=params
        )
    return images, targets


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a host tensor on a device; on CUDA without waiting for the copy."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def compose(matrices: Sequence[Tensor]) -> Tensor:
    """Return the composition of matrices (n, 2, 3) in the order in which images change.

    The result is float64 on the host. A matrix maps output to input, so the last change is undone
    first.
    """
    import torch

    def homogeneous(matrix: Tensor) -> Tensor:
        bottom = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(len(matrix), 1, 3)
        return torch.cat([matrix.cpu().double(), bottom], dim=1)

    return reduce(torch.matmul, map(homogeneous, matrices))[:, :2]


def transform(images: Tensor, matrices: Tensor) -> Tensor:
    """Return images resampled bilinearly, with black outside; mere flips are exact.

    `matrices` (n, 2, 3), on the host, map output to input, in pixels from the centre.
    """
    import torch
    from torch.nn.functional import grid_sample

    signs = matrices.diagonal(dim1=1, dim2=2)
    if torch.equal(matrices[:, :, :2], torch.diag_embed(signs)) and _are_flips(matrices, signs):
        return _flipped(images, signs < 0)
    return grid_sample(images, _grid(images, matrices), padding_mode="zeros", align_corners=False)


def _are_flips(matrices: Tensor, signs: Tensor) -> bool:
    return bool((signs.abs() == 1).all() and (matrices[:, :, 2] == 0).all())


def _flipped(images: Tensor, mirrored: Tensor) -> Tensor:
    """Return images flipped along x and y where `mirrored`, bool (n, 2), says so."""
    for axis, chosen in zip((-1, -2), mirrored.unbind(dim=1), strict=True):
        if chosen.any():
            mask = to_device(chosen, images.device).view(-1, 1, 1, 1)
            images = images.flip(axis).where(mask, images)
    return images


def _grid(images: Tensor, matrices: Tensor) -> Tensor:
    """Return the sampling points (n, H, W, 2), from -1 to 1 between the borders.

    They are computed element by element: a matrix product would round coordinates to TF32 or
    bfloat16 if the step allows that.
    """
    import torch

    height, width = images.shape[-2:]
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    # Input points are in half sizes, output points in pixels from the centre.
    coefficients = to_device((matrices / half[:, None]).float(), images.device)
    x, y = (
        torch.arange(length, device=images.device, dtype=torch.float32) - (length - 1) / 2
        for length in (width, height)
    )
    by_x, by_y, shift = coefficients[:, None, None].unbind(dim=-1)
    return by_x * x[:, None] + (by_y * y[:, None, None] + shift)
