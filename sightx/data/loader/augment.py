"""Augmentation of a batch: drawn on the host, carried out where the images are."""

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
    """Return changed images, float (n, C, H, W) in [0, 1], and targets.

    Every component draws from `rng` in the order of the chain. All geometry comes first: its
    matrices are composed, and pixels sampled once; then each component's `apply`, in order.
    """
    n, size = len(images), tuple(images.shape[-2:])
    drawn = [(component, call_declared(component.draw, n=n, rng=rng)) for component in components]
    found = [
        call_declared(component.matrix, params=params, size=size) for component, params in drawn
    ]
    matrices = [matrix for matrix in found if matrix is not None]
    if matrices:
        images = transform(images, compose(matrices))
    for component, params in drawn:
        images, targets = call_declared(
            component.apply, images=images, targets=targets, params=params
        )
    return images, targets


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on a device; on CUDA nobody waits for the copy."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def compose(matrices: Sequence[Tensor]) -> Tensor:
    """Return (n, 2, 3) float64 on the host: the first change of the images, then the next.

    A matrix leads from output to input, so the last change is the first one undone.
    """
    import torch

    def homogeneous(matrix: Tensor) -> Tensor:
        bottom = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(len(matrix), 1, 3)
        return torch.cat([matrix.cpu().double(), bottom], dim=1)

    return reduce(torch.matmul, map(homogeneous, matrices))[:, :2]


def transform(images: Tensor, matrices: Tensor) -> Tensor:
    """Return images resampled bilinearly, black outside; flips alone keep every pixel's bits.

    `matrices` (n, 2, 3), on the host, lead from output to input in pixels from the centre.
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
    """Return images with the axes x and y mirrored that `mirrored` (n, 2) names."""
    for axis, chosen in zip((-1, -2), mirrored.unbind(dim=1), strict=True):
        if chosen.any():
            here = to_device(chosen, images.device).view(-1, 1, 1, 1)
            images = images.flip(axis).where(here, images)
    return images


def _grid(images: Tensor, matrices: Tensor) -> Tensor:
    """Return the sampling points (n, H, W, 2), -1 to 1 from border to border.

    Element by element: a matrix product would round coordinates to TF32 or bfloat16 wherever the
    step allows that.
    """
    import torch

    height, width = images.shape[-2:]
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    # Input points count in half sizes, output points in pixels from the centre.
    table = to_device((matrices / half[:, None]).float(), images.device)
    x, y = (
        torch.arange(length, device=images.device, dtype=torch.float32) - (length - 1) / 2
        for length in (width, height)
    )
    by_x, by_y, shift = table[:, None, None].unbind(dim=-1)
    return by_x * x[:, None] + (by_y * y[:, None, None] + shift)
