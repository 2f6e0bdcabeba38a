from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference
from torchvision.transforms.autoaugment import _apply_op

from sightx.builtin.randaugment import RandAugment
from sightx.data.loader.augment import augment, transform

GEOMETRY = ["Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"]
COLORS = [
    "Identity", "Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize",
    "AutoContrast", "Equalize",
]  # fmt: skip
SIZE = (40, 56)


def pictures(n, channels=3):
    """Return pictures with 8 bits of smooth colours, which are not spread over all values."""
    y, x = torch.linspace(0, 1, SIZE[0])[:, None], torch.linspace(0, 1, SIZE[1])
    waves = [0.5 + 0.25 * (5 * x + k).sin() * (3 * y + k).cos() + 0.1 * x for k in range(channels)]
    noise = 0.05 * torch.rand(n, channels, *SIZE, generator=torch.Generator().manual_seed(0))
    return ((torch.stack(waves) + noise) * 255).round() / 255


def drawn(n, geometry=0, color=0, sign=1.0):
    return {
        "geometry": np.full(n, geometry), "color": np.full(n, color),
        "geometry_sign": np.full(n, sign), "color_sign": np.full(n, sign),
    }  # fmt: skip


@pytest.mark.parametrize("name", COLORS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("magnitude", [0.3, 0.8])
def test_colours_are_torchvisions(name, sign, magnitude) -> None:
    images, params = pictures(3), drawn(3, color=COLORS.index(name), sign=sign)
    own, _ = RandAugment(magnitude=magnitude).apply(images, torch.zeros(3), params, classes=2)
    strength = {
        "Posterize": 8 - round(4 * magnitude),
        "Solarize": 1 - magnitude,
    }.get(name, sign * 0.9 * magnitude)
    given = (images * 255).round().byte() if name in ("Posterize", "Equalize") else images
    expected = _apply_op(given, name, strength, InterpolationMode.BILINEAR, None)
    expected = expected.float() / 255 if expected.dtype == torch.uint8 else expected
    torch.testing.assert_close(own, expected, atol=1e-4, rtol=0)  # other luma
    assert (own.equal(images)) == (name == "Identity")


def test_equalize_leaves_a_flat_channel() -> None:
    images = torch.full((1, 1, 8, 8), 0.4)
    own, _ = RandAugment().apply(images, torch.zeros(1), drawn(1, color=8), classes=2)
    torch.testing.assert_close(own, (images * 255).round() / 255)


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_geometry_is_torchvisions(name, sign) -> None:
    images, params = pictures(2), drawn(2, geometry=GEOMETRY.index(name), sign=sign)
    own = transform(images, RandAugment(magnitude=0.5).matrix(params, SIZE).double())
    degrees = np.degrees(np.arctan(sign * 0.15))
    pixels = sign * 0.5 * 150 / 331 * np.array(SIZE)
    settings = {
        "ShearX": {"shear": [degrees, 0.0]},
        "ShearY": {"shear": [0.0, degrees]},
        "Rotate": {"angle": -sign * 15.0},  # F.affine turns clockwise
    }.get(name, {})
    if name.startswith("Translate"):  # F.affine moves by whole pixels: matrices are compared
        axis = "XY".index(name[-1])
        shift = RandAugment(magnitude=0.5).matrix(params, SIZE)[0, axis, 2]
        assert shift == pytest.approx(-pixels[1 - axis])
        return
    defaults = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    wanted = reference.affine(
        images, **defaults | settings, interpolation=InterpolationMode.BILINEAR
    )
    assert (own - wanted).abs().max() < 2e-4


def test_each_sample_has_one_of_each_and_all_are_equally_frequent() -> None:
    params = RandAugment().draw(20_000, np.random.default_rng(0))
    pairs = np.stack([params["geometry"], params["color"]], axis=1)
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    assert len(counts) == 6 * 9
    assert counts.min() > 20_000 / 54 * 0.8


def test_samples_are_treated_one_by_one() -> None:
    images, targets = pictures(12), torch.zeros(12, dtype=torch.int64)
    component = RandAugment(magnitude=0.6)
    params = component.draw(12, np.random.default_rng(3))
    together, _ = component.apply(images, targets, params, classes=2)
    for row in range(12):
        one = {key: values[row : row + 1] for key, values in params.items()}
        alone, _ = component.apply(images[row : row + 1], targets[:1], one, classes=2)
        torch.testing.assert_close(together[row : row + 1], alone)


def test_pixels_are_resampled_once_in_a_chain(monkeypatch) -> None:
    from torch.nn import functional

    from sightx.builtin.augment import Rotate

    calls, sample = [], functional.grid_sample
    monkeypatch.setattr(
        functional, "grid_sample", lambda *a, **k: calls.append(1) or sample(*a, **k)
    )
    chain = [Rotate(degrees=20.0), RandAugment(magnitude=0.6)]
    augment(
        pictures(8), torch.zeros(8, dtype=torch.int64), chain, np.random.default_rng(0), classes=2
    )
    assert len(calls) == 1
