from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from sightx.builtin.augment import ColorJitter, Crop, Flip, Rotate, Shift
from sightx.data.loader.augment import transform

ALL = [
    Flip(horizontal=0.5, vertical=0.5),
    Rotate(degrees=90.0),
    Crop(),
    Shift(),
    ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1),
]
SIZE = (48, 71)


def rng(seed=0):
    return np.random.default_rng(seed)


def pictures(n=4, channels=3, size=SIZE):
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("component", ALL, ids=lambda component: component.name)
def test_each_sample_has_a_draw_of_its_own_and_the_generator_alone_decides(component):
    drawn = component.draw(256, rng())
    again = component.draw(256, rng())
    other = component.draw(256, rng(1))
    rows = np.stack(list(drawn.values()), axis=1)
    assert rows.shape[0] == 256
    assert rows.dtype == np.float64
    assert all(np.array_equal(drawn[key], again[key]) for key in drawn)
    assert any(not np.array_equal(drawn[key], other[key]) for key in drawn)
    discrete = {"flip": 4, "shift": 81}
    assert len(np.unique(rows, axis=0)) >= min(discrete.get(component.name, 256), 75)


@pytest.mark.parametrize("component", ALL[:4], ids=lambda component: component.name)
def test_matrices_are_small_floats_on_the_host(component):
    matrix = component.matrix(component.draw(5, rng()), SIZE)
    assert matrix.shape == (5, 2, 3)
    assert matrix.dtype == torch.float32
    assert matrix.device.type == "cpu"


# --- flip


def test_flips_are_torchvisions_to_the_bit():
    signs = {"x": np.array([1.0, -1, 1, -1]), "y": np.array([1.0, 1, -1, -1])}
    images = pictures()
    flipped = transform(images, Flip().matrix(signs, SIZE).double())
    assert torch.equal(flipped[0], images[0])
    assert torch.equal(flipped[1], reference.horizontal_flip(images[1]))
    assert torch.equal(flipped[2], reference.vertical_flip(images[2]))
    assert torch.equal(flipped[3], images[3].flip(-1, -2))


@pytest.mark.parametrize(("horizontal", "vertical"), [(0.0, 1.0), (0.25, 0.75)])
def test_flips_are_as_frequent_as_asked(horizontal, vertical):
    drawn = Flip(horizontal=horizontal, vertical=vertical).draw(20_000, rng())
    assert np.mean(drawn["x"] < 0) == pytest.approx(horizontal, abs=0.01)
    assert np.mean(drawn["y"] < 0) == pytest.approx(vertical, abs=0.01)


# --- rotate


@pytest.mark.parametrize("size", [(48, 71), (64, 64), (33, 20)])
def test_turns_are_torchvisions(size):
    angles = np.array([-170.0, -45.0, 0.0, 12.5, 90.0, 180.0])
    images = pictures(len(angles), size=size)
    turned = transform(images, Rotate(degrees=180).matrix({"angle": angles}, size).double())
    for image, found, angle in zip(images, turned, angles, strict=True):
        wanted = reference.rotate(
            image, angle, interpolation=InterpolationMode.BILINEAR, expand=False
        )
        assert (found - wanted).abs().max() < 2e-4


def test_turns_are_spread_evenly_over_both_directions():
    angles = Rotate(degrees=30).draw(20_000, rng())["angle"]
    assert np.abs(angles).max() <= 30
    shares, _ = np.histogram(angles, bins=6, range=(-30, 30))
    np.testing.assert_allclose(shares / 20_000, 1 / 6, atol=0.012)


# --- crop


def test_a_crop_is_the_resized_cut_of_torchvision():
    height, width = 64, 96  # the cut is 32 high and 48 wide: half of each side
    images = pictures(1, size=(height, width))
    drawn = {"scale": 0.25, "ratio": 1.5, "x": 8 / 48, "y": -10 / 32}
    params = {key: np.array([value]) for key, value in drawn.items()}
    found = transform(images, Crop().matrix(params, (height, width)).double())
    wanted = reference.resized_crop(images, 6, 32, 32, 48, [height, width], antialias=False)
    inner = (..., slice(2, -2), slice(2, -2))  # at the border a cut has no neighbours to blend with
    assert (found - wanted)[inner].abs().max() < 1e-4


def boxes(component, n, size):
    """Return top, left, height and width of the parts that matrices show."""
    matrix = component.matrix(component.draw(n, rng()), size).double().numpy()
    height, width = matrix[:, 1, 1] * size[0], matrix[:, 0, 0] * size[1]
    top = size[0] / 2 + matrix[:, 1, 2] - height / 2
    return top, size[1] / 2 + matrix[:, 0, 2] - width / 2, height, width


@pytest.mark.parametrize("size", [(48, 71), (200, 50)])
def test_crops_lie_within_the_image_and_have_the_area_asked_for(size):
    component = Crop(scale=(0.3, 0.9), ratio=(0.5, 3.0))
    top, left, height, width = boxes(component, 2000, size)
    share = height * width / (size[0] * size[1])
    assert min(top.min(), left.min()) > -1e-4
    assert (top + height).max() < size[0] + 1e-4
    assert (left + width).max() < size[1] + 1e-4
    assert 0.3 - 1e-5 < share.min() < 0.31
    assert 0.89 < share.max() < 0.9 + 1e-5


def test_crops_are_spread_as_torchvisions_where_every_aspect_fits():
    torch.manual_seed(0)
    size, image = (400, 400), torch.empty(3, 400, 400)
    random = RandomResizedCrop(8, scale=(0.1, 0.5), ratio=(0.75, 1.333))
    theirs = [random.make_params([image]) for _ in range(4000)]
    theirs = np.array([[p["top"], p["left"], p["height"], p["width"]] for p in theirs]).T
    ours = boxes(Crop(scale=(0.1, 0.5), ratio=(0.75, 1.333)), 4000, size)
    for one, other in zip(ours, theirs, strict=True):
        levels = [0.05, 0.25, 0.5, 0.75, 0.95]
        assert np.abs(np.quantile(one, levels) - np.quantile(other, levels)).max() < 8
    logarithms = np.log(ours[3] / ours[2])
    assert logarithms.mean() == pytest.approx(0, abs=0.01)
    assert logarithms.std() == pytest.approx(np.log(1.333 / 0.75) / 12**0.5, rel=0.03)


def test_a_crop_of_everything_changes_nothing():
    images = pictures()
    component = Crop(scale=(1.0, 1.0))
    found = transform(images, component.matrix(component.draw(4, rng()), SIZE).double())
    assert (found - images).abs().max() < 1e-4


# --- shift


def test_shifts_are_cuts_from_a_padded_image():
    images = pictures(81, channels=1, size=(9, 12))
    component = Shift(pixels=2)
    drawn = component.draw(81, rng())
    assert set(zip(drawn["x"], drawn["y"], strict=True)) > {(-2, 2), (2, -2), (0, 0)}
    found = transform(images, component.matrix(drawn, (9, 12)).double())
    padded = torch.nn.functional.pad(images, [2, 2, 2, 2])
    for index in range(81):
        top, left = int(drawn["y"][index]) + 2, int(drawn["x"][index]) + 2
        wanted = padded[index, :, top : top + 9, left : left + 12]
        assert (found[index] - wanted).abs().max() < 1e-5


# --- color-jitter

FACTORS = np.array([0.0, 0.4, 1.0, 1.7])
HUES = np.array([-0.5, -0.13, 0.0, 0.31])
NEUTRAL = {
    "brightness": np.ones(4),
    "contrast": np.ones(4),
    "saturation": np.ones(4),
    "hue": np.zeros(4),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("key", "values"),
    [("brightness", FACTORS), ("contrast", FACTORS), ("saturation", FACTORS), ("hue", HUES)],
)
def test_each_change_of_colour_is_torchvisions(key, values, channels):
    images, targets = pictures(channels=channels), torch.arange(4)
    component = ColorJitter(**{key: 0.5})
    found, kept = component.apply(images, targets, {**NEUTRAL, key: values}, classes=2)
    adjust = getattr(reference, f"adjust_{key}")
    wanted = torch.stack([adjust(image, v) for image, v in zip(images, values, strict=True)])
    assert (found - wanted).abs().max() < 3e-4  # torchvision's luma weights add up to 0.9999
    assert torch.equal(kept, targets)
    assert (found - images).abs().max() > 0.1 or (channels == 1 and key in ("saturation", "hue"))


def test_greys_black_and_white_have_no_hue_to_turn():
    images = torch.linspace(0, 1, 12).view(1, 1, 3, 4).expand(1, 3, 3, 4)
    turn = {**{key: value[:1] for key, value in NEUTRAL.items()}, "hue": np.array([0.3])}
    found, _ = ColorJitter(hue=0.5).apply(images, torch.zeros(1), turn, classes=2)
    assert torch.equal(found, images)


def test_changes_of_colour_come_in_a_fixed_order():
    images = pictures()
    values = dict.fromkeys(("brightness", "contrast", "saturation"), np.full(4, 1.5))
    component = ColorJitter(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)
    found, _ = component.apply(
        images, torch.zeros(4), {**values, "hue": np.full(4, 0.2)}, classes=2
    )
    wanted = images
    for adjust in (
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
    ):
        wanted = adjust(wanted, 1.5)
    assert (found - reference.adjust_hue(wanted, 0.2)).abs().max() < 1e-3
    assert found.min() >= 0
    assert found.max() <= 1


def test_factors_are_drawn_as_torchvision_draws_them():
    drawn = ColorJitter(brightness=0.4, contrast=2.0, hue=0.1).draw(20_000, rng())
    limits = {
        "brightness": (0.6, 1.4),
        "contrast": (0, 3),
        "saturation": (1, 1),
        "hue": (-0.1, 0.1),
    }
    for key, (low, high) in limits.items():
        assert low <= drawn[key].min() <= low + 0.01
        assert high - 0.01 <= drawn[key].max() <= high


# --- settings


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (Flip, {"horizontal": 1.5}, "less than or equal to 1"),
        (Rotate, {}, "degrees"),
        (Rotate, {"degrees": 0}, "greater than 0"),
        (Rotate, {"degrees": 200}, "less than or equal to 180"),
        (Crop, {"scale": [0.9, 0.5]}, "scale must be"),
        (Crop, {"ratio": [2.0, 1.0]}, "ratio must be"),
        (Crop, {"scale": [0.0, 1.0]}, "greater than 0"),
        (Crop, {"scale": [0.5, 1.1]}, "less than or equal to 1"),
        (Shift, {"pixels": 0}, "greater than 0"),
        (ColorJitter, {"hue": 0.6}, "less than or equal to 0.5"),
        (ColorJitter, {"contrast": -0.1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind, settings, words):
    with pytest.raises(ValidationError, match=words):
        kind.model_validate_json(json.dumps(settings))
