"""The plugin as users get it: from the project's folder of plugins, by its name in a spec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

import sightx
from sightx.plugin import Preprocess, Shape
from sightx.registry import loading, project

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def component() -> type[Preprocess]:
    """The class in the registry of this project."""
    cls = loading.load_registry(project.find_project(ROOT)).find(
        "preprocess", "subtract-local-average"
    )
    assert issubclass(cls, Preprocess)
    return cls


def fundus(
    height: int = 300, width: int = 400, radius: float = 140, noise: float = 40, grain: float = 1.5
) -> Image.Image:
    """Return a disc on black with a gradient of brightness and random spots."""
    rng = np.random.default_rng(height * width)
    y, x = np.mgrid[:height, :width]
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    light = np.array([150, 90, 50]) + (x / width)[..., None] * 60 + (y / height)[..., None] * 30
    spots = gaussian_filter(rng.normal(0, noise, (height, width, 3)), (grain, grain, 0))
    inside = (np.hypot(x, y) <= radius)[..., None]
    return Image.fromarray(((light + spots).clip(0, 255) * inside).astype(np.uint8))


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def graham(image: Image.Image, scale: int) -> np.ndarray:
    """Apply the published method to the whole photograph, with numpy, Pillow and scipy."""
    pixels = np.array(image).astype(float)
    row = pixels[pixels.shape[0] // 2].sum(axis=1)
    factor = scale / ((row > row.mean() / 10).sum() / 2)
    size = (round(image.width * factor), round(image.height * factor))
    pixels = np.array(image.resize(size, Image.Resampling.BILINEAR)).astype(float)
    average = gaussian_filter(pixels, (scale / 30, scale / 30, 0), mode="mirror", truncate=3)
    result = np.clip(4 * pixels - 4 * average + 128, 0, 255)
    y, x = np.mgrid[: size[1], : size[0]]
    far = np.hypot(y - (size[1] - 1) / 2, x - (size[0] - 1) / 2) > 0.9 * scale
    result[far] = 128
    edge = round(2 * 0.9 * scale)
    square = np.full((edge, edge, 3), 128.0)
    top, left = (edge - size[1]) // 2, (edge - size[0]) // 2
    inner = result[max(0, -top) :, max(0, -left) :][:edge, :edge]
    square[max(0, top) :, max(0, left) :][: inner.shape[0], : inner.shape[1]] = inner
    return square


@pytest.mark.parametrize(
    ("height", "width", "radius", "scale"),
    [
        (320, 480, 160, 40),  # smaller
        (300, 400, 140, 140),  # as large
        (200, 400, 140, 70),  # cut off above and below
        (96, 128, 40, 100),  # larger
    ],
)
def test_the_result_is_that_of_the_published_method(
    component, height, width, radius, scale
) -> None:
    image = fundus(height, width, radius)
    result = component(radius=scale).apply(tensor(image)).permute(1, 2, 0).numpy().astype(float)
    expected = graham(image, scale)
    assert result.shape == expected.shape == (round(1.8 * scale),) * 2 + (3,)
    # Scaling rounds pixels before they are stretched, and here only the middle is scaled.
    assert np.abs(result - expected).mean() < 2
    assert np.corrcoef(result.ravel(), expected.ravel())[0, 1] > 0.99


def test_without_scaling_the_result_is_exact_to_one_grey_level(component) -> None:
    image = fundus(301, 301, 150, grain=0.5)
    result = component(radius=150.5).apply(tensor(image)).permute(1, 2, 0).numpy().astype(float)
    pixels = np.array(image).astype(float)
    row = pixels[150].sum(axis=1)
    assert (row > row.mean() / 10).sum() == 301
    sigma = (150.5 / 30,) * 2 + (0,)
    expected = 128 + 4 * (pixels - gaussian_filter(pixels, sigma, mode="mirror", truncate=3))
    y, x = np.mgrid[-150:151, -150:151]
    expected[np.hypot(y, x) > 0.9 * 150.5] = 128
    assert np.abs(result - expected[15:286, 15:286].clip(0, 255)).max() <= 0.51


def test_illumination_is_removed_and_details_stay(component) -> None:
    plain, lit = fundus(noise=0), np.array(fundus(noise=0)).astype(float)
    spot = lit.copy()
    spot[145:155, 230:240] *= 0.7
    apply = component(radius=140).apply
    flat = apply(tensor(plain)).int()
    assert (flat - 128).abs().float().mean() < 2
    shown = apply(tensor(Image.fromarray(spot.astype(np.uint8)))).int()
    seen = (shown - flat).abs().amax(dim=0)
    top, left = 150 - (300 - 252) // 2, 235 - (400 - 252) // 2
    assert seen[top, left] > 60
    assert seen[:, :100].max() <= 1
    half = apply(tensor(Image.fromarray((lit * 0.5).astype(np.uint8)))).int()
    assert (half - flat).abs().float().mean() < 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (64, 48)])
def test_the_result_of_any_image_is_the_declared_square_and_the_input_is_unchanged(
    component, channels, size
) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (channels, *size), dtype=torch.uint8, generator=generator)
    before = image.clone()
    subtract = component(radius=20)
    result = subtract.apply(image)
    assert result.dtype == torch.uint8
    assert tuple(result.shape) == subtract.shape(Shape(channels, *size)) == (channels, 36, 36)
    assert torch.equal(image, before)
    assert torch.equal(subtract.apply(image), result)
    last = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(subtract.apply(last), result)


def test_a_black_photograph_becomes_grey_and_one_bright_pixel_does_not_enlarge_it(
    component,
) -> None:
    black = torch.zeros((3, 3000, 4000), dtype=torch.uint8)
    assert (component().apply(black) == 128).all()
    black[:, 1500, 2000] = 255
    assert component().apply(black).shape == (3, 540, 540)


@pytest.mark.parametrize(
    "wrong", [{"radius": 0.5}, {"gain": 0.0}, {"blur": 0.0}, {"rim": 1.5}, {"share": 0.1}]
)
def test_settings_have_bounds(component, wrong) -> None:
    with pytest.raises(ValidationError):
        component(**wrong)


def test_the_shipped_spec_uses_the_component() -> None:
    experiment = sightx.load(ROOT / "specs" / "eyepacs_local_average.toml")
    (subtract,) = experiment.preprocess
    assert (subtract.name, subtract.revision) == ("subtract-local-average", 2)
    assert type(subtract).__module__ == "local_average"
    assert subtract.shape(Shape(3, None, None)) == (3, 224, 224)
