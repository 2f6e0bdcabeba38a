"""Checks of augmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightx.plugin import Augment, Params, call_declared
from sightx.testing.assertions import ContractCheck, on_meta, require
from sightx.testing.fixtures import images

if TYPE_CHECKING:
    from torch import Tensor

_N = 64
_SIZE = (8, 12)
_CLASSES = 3  # of `images`


def draws_are_per_sample(augment: Augment) -> None:
    """Require a mapping of arrays whose first dimension is the number of samples."""
    for n, progress in ((1, 0.0), (5, 0.0), (5, 0.99)):
        for key, values in _draw(augment, 0, n, progress).items():
            shape = getattr(values, "shape", None)
            require(
                shape is not None and shape[:1] == (n,),
                f"draw({n}) returns {key!r} with shape {shape}; draw one value per sample",
            )


def draws_use_given_rng(augment: Augment) -> None:
    """Require that all random numbers come from the given generator."""
    require(
        _to_bytes(_draw(augment, 0)) == _to_bytes(_draw(augment, 0)),
        "draw() differs for the same rng; take all random numbers from rng",
    )


def samples_get_different_draws(augment: Augment) -> None:
    """Require independent draws for the samples, if anything is random."""
    one, two = _draw(augment, 0), _draw(augment, 1)
    if _to_bytes(one) == _to_bytes(two):
        return
    is_per_sample = any((values != values[:1]).any() for values in one.values())
    require(is_per_sample, f"all {_N} samples get the same draw; draw n numbers from rng")


def matrices_are_valid(augment: Augment) -> None:
    """Require finite, invertible matrices (n, 2, 3), or None, for several image sizes."""
    import torch

    for size in (_SIZE, _SIZE[::-1], (9, 9)):
        matrix = _matrix(augment, _draw(augment, 0), size)
        if matrix is None:
            return
        is_valid = isinstance(matrix, torch.Tensor) and tuple(matrix.shape) == (_N, 2, 3)
        require(is_valid, f"matrix() must return a tensor ({_N}, 2, 3) for {_N} samples, or None")
        require(bool(matrix.isfinite().all()), f"matrix() is not finite for the size {size}")
        determinants = torch.linalg.det(matrix[:, :, :2].double())
        is_invertible = not bool((determinants.abs() < 1e-9).any())
        require(is_invertible, f"matrix() is not invertible for the size {size}")


def images_stay_valid(augment: Augment) -> None:
    """Require float32 images of the same shape in [0, 1], and valid targets."""
    import torch

    for size in (_SIZE, _SIZE[::-1]):
        pixels, targets = _batch(size)
        result, mixed = _apply(augment, pixels, targets)
        form = f"{getattr(result, 'dtype', '')} {tuple(getattr(result, 'shape', ()))}"
        is_same = result.dtype == torch.float32 and result.shape == pixels.shape
        require(is_same, f"apply() returns {form}; keep {pixels.dtype} {tuple(pixels.shape)}")
        low, high = float(result.min()), float(result.max())
        is_valid = low >= -1e-6 and high <= 1 + 1e-6
        require(is_valid, f"pixels are {low:.3g} to {high:.3g}; clamp them to 0..1")
        if mixed.ndim == 2:
            require(augment.mixes, "targets are mixed; set mixes = True on the class")
            require(mixed.shape[1] == _CLASSES, f"targets are {tuple(mixed.shape)}; use `classes`")
            sums = mixed.sum(dim=1)
            is_valid = len(mixed) == _N and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
        else:
            is_valid = mixed.equal(targets)
        require(is_valid, "targets must not change, or become probabilities (n, classes)")


def apply_is_deterministic(augment: Augment) -> None:
    """Require the same images for the same draw."""
    one, two = (_apply(augment, *_batch(_SIZE))[0] for _ in range(2))
    require(one.equal(two), "apply() differs for the same draw; draw in draw(), from rng")


def apply_works_on_any_device(augment: Augment) -> None:
    """Require results on the device of the images, without reading values from it."""
    pixels, targets = (tensor.to("meta") for tensor in _batch(_SIZE))
    with on_meta("apply()"):
        result, mixed = _apply(augment, pixels, targets)
    require(result.is_meta and mixed.is_meta, "apply() returns tensors on another device")


def augmentation_has_an_effect(augment: Augment) -> None:
    """Require that matrix() or apply() changes an image."""
    import torch

    pixels, targets = _batch(_SIZE)
    matrix = _matrix(augment, _draw(augment, 0), _SIZE)
    identity = torch.eye(2, 3).expand(_N, 2, 3)
    is_moved = matrix is not None and not torch.equal(matrix.cpu().float(), identity)
    result, mixed = _apply(augment, pixels, targets)
    require(
        is_moved or not (result.equal(pixels) and mixed.equal(targets)),
        "neither matrix() nor apply() changes an image; pass settings with which it does",
    )


def _draw(augment: Augment, seed: int, n: int = _N, progress: float = 0.0) -> Params:
    import numpy as np

    params: Params = call_declared(
        augment.draw, n=n, rng=np.random.default_rng(seed), progress=progress
    )
    return params


def _to_bytes(params: Params) -> list[tuple[str, bytes]]:
    return [(key, values.tobytes()) for key, values in sorted(params.items())]


def _matrix(augment: Augment, params: Params, size: tuple[int, int]) -> Tensor | None:
    matrix: Tensor | None = call_declared(augment.matrix, params=params, size=size)
    return matrix


def _batch(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    import torch

    pixels, labels = images(_N, size)
    return pixels.float() / 255, torch.from_numpy(labels)


def _apply(augment: Augment, pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    params = _draw(augment, 0)
    result: tuple[Tensor, Tensor] = call_declared(
        augment.apply,
        images=pixels.clone(),
        targets=targets.clone(),
        params=params,
        classes=_CLASSES,
    )
    return result


CHECKS: tuple[ContractCheck, ...] = (
    draws_are_per_sample, draws_use_given_rng, samples_get_different_draws, matrices_are_valid,
    images_stay_valid, apply_is_deterministic, apply_works_on_any_device,
    augmentation_has_an_effect,
)  # fmt: skip
