from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms.v2 import functional as reference

from sightx.builtin.preprocess import CenterCrop, CropToFundus, Grayscale, Resize
from sightx.plugin import Preprocess, Shape

PHOTOGRAPHS = Path(__file__).parents[3] / "shared/data/eyepacs-fullres/images"
ALL = [
    Resize(size=40),
    Resize(size=(20, 50), fit="pad"),
    CenterCrop(size=(33, 80)),
    CropToFundus(),
    Grayscale(),
    Grayscale(channels=1),
]


def picture(height, width, channels=3):
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (channels, height, width), dtype=torch.uint8, generator=generator)


def difference(one, other):
    return int((one.int() - other.int()).abs().max())


def as_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pil(image):
    return torch.from_numpy(np.array(image).reshape(image.height, image.width, -1)).permute(2, 0, 1)


@pytest.mark.parametrize("component", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_apply_leaves_its_input_and_answers_with_the_shape_it_promises(component, channels):
    image = picture(61, 47, channels)
    before = image.clone()
    changed = component.apply(image)
    promised = component.shape(Shape(channels, 61, 47))
    assert changed.dtype == torch.uint8
    assert changed.shape[0] == promised.channels
    assert promised.height in (None, changed.shape[1])
    assert promised.width in (None, changed.shape[2])
    assert torch.equal(image, before)
    assert torch.equal(component.apply(image), changed)
    assert isinstance(component, Preprocess)


# --- resize


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("old", [(300, 211), (64, 96), (20, 400)])
@pytest.mark.parametrize("new", [(48, 48), (130, 33)])
def test_stretch_is_torchvisions_resize(old, new, channels):
    image = picture(*old, channels)
    wanted = reference.resize(image, list(new), antialias=True)
    assert torch.equal(Resize(size=new).apply(image), wanted)


def test_stretch_is_pillows_resize_to_one_grey_level():
    image = picture(301, 200)
    wanted = from_pil(as_pil(image).resize((50, 70), Image.Resampling.BILINEAR))
    assert difference(Resize(size=(70, 50)).apply(image), wanted) <= 1


def test_resize_does_not_depend_on_how_the_image_lies_in_memory():
    image = picture(120, 90)
    interleaved = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    one, other = (Resize(size=32).apply(same) for same in (image, interleaved))
    assert torch.equal(one, other)
    assert one.is_contiguous()
    assert other.is_contiguous()


def test_one_number_is_a_square():
    assert Resize(size=32).apply(picture(50, 90)).shape == (3, 32, 32)


@pytest.mark.parametrize(("old", "inner"), [((100, 200), (32, 64)), ((90, 30), (64, 21))])
def test_pad_keeps_proportions_and_adds_black(old, inner):
    image = picture(*old)
    padded = Resize(size=64, fit="pad").apply(image)
    top, left = ((64 - side) // 2 for side in inner)
    inside = padded[:, top : top + inner[0], left : left + inner[1]]
    assert padded.shape == (3, 64, 64)
    assert torch.equal(inside, reference.resize(image, list(inner), antialias=True))
    assert padded.sum() == inside.sum()


@pytest.mark.parametrize("old", [(100, 200), (77, 30)])
def test_cover_keeps_proportions_and_fills_the_whole(old):
    image = picture(*old)
    inner = [round(side * max(40 / old[0], 48 / old[1])) for side in old]
    scaled = reference.resize(image, inner, antialias=True)
    covered = Resize(size=(40, 48), fit="cover").apply(image)
    assert torch.equal(covered, reference.center_crop(scaled, [40, 48]))


def test_a_very_long_image_keeps_at_least_one_line():
    assert Resize(size=8, fit="pad").apply(picture(1, 500)).shape == (3, 8, 8)


@pytest.mark.parametrize("size", [0, -3, [0, 5], [5], [5, 5, 5], 2.5, True])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValidationError):
        Resize.model_validate_json(json.dumps({"size": size}))


def test_a_size_comes_from_toml_as_a_list():
    component = Resize.model_validate_json(json.dumps({"size": [30, 40], "fit": "cover"}))
    assert component.shape(Shape(3, None, None)) == Shape(3, 30, 40)


# --- center-crop


@pytest.mark.parametrize("old", [(50, 61), (20, 24), (21, 90)])
@pytest.mark.parametrize("new", [(32, 32), (33, 27), (21, 90)])
def test_the_middle_is_torchvisions(old, new):
    image = picture(*old)
    wanted = reference.center_crop(image, list(new))
    assert torch.equal(CenterCrop(size=new).apply(image), wanted)


# --- crop-to-fundus


def photograph(height, width, radius, centre, *, retina=(170, 90, 40), noise=0.0):
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    shade = 0.5 + 0.5 * np.clip((x - centre[1] + radius) / (2 * radius), 0, 1)  # uneven light
    image = inside[..., None] * shade[..., None] * np.array(retina)
    image = image + rng.normal(0, noise, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def box_of(image, **settings):
    """Read top, bottom, left and right off the place of the crop in the memory of the image."""
    cut = CropToFundus(**settings).apply(torch.from_numpy(image).permute(2, 0, 1))
    top, left = divmod(cut.storage_offset() // 3, image.shape[1])
    return top, top + cut.shape[1], left, left + cut.shape[2]


def expected(height, width, radius, centre):
    y, x = centre
    low = [max(0, y - radius), max(0, x - radius)]
    high = [min(height, y + radius), min(width, x + radius)]
    return np.array([low[0], high[0], low[1], high[1]])


DISCS = {
    "inside": (600, 900, 250, (300, 450)),
    "off the middle": (600, 900, 200, (230, 280)),
    "cut off above and below": (600, 900, 380, (300, 450)),
    "large": (2000, 3000, 930, (1000, 1480)),
    "small image": (96, 128, 40, (48, 66)),
}


@pytest.mark.parametrize("noise", [0.0, 4.0])
@pytest.mark.parametrize("disc", DISCS.values(), ids=DISCS)
def test_the_box_of_a_disc_is_found(disc, noise):
    found = box_of(photograph(*disc, noise=noise))
    assert np.abs(np.array(found) - expected(*disc)).max() <= 2 + 0.01 * disc[2]


@pytest.mark.parametrize("retina", [(30, 14, 6), (250, 250, 250)])
def test_dark_and_overexposed_retinas_are_found(retina):
    disc = DISCS["inside"]
    found = box_of(photograph(*disc, retina=retina))
    assert np.abs(np.array(found) - expected(*disc)).max() <= 5


def test_a_label_in_a_corner_and_hot_pixels_do_not_count():
    disc = DISCS["inside"]
    image = photograph(*disc)
    image[570:590, 10:100:3] = 255  # strokes of letters
    image[np.random.default_rng(1).integers(0, 600, 40), np.arange(0, 880, 22)] = 255
    assert np.abs(np.array(box_of(image)) - expected(*disc)).max() <= 5


def test_a_plate_below_the_disc_does_not_count():
    disc = DISCS["inside"]
    image = photograph(*disc)
    image[556:598, 10:220] = 255
    assert np.abs(np.array(box_of(image)) - expected(*disc)).max() <= 5


def test_a_surround_that_is_not_quite_black_is_surround():
    disc = DISCS["off the middle"]
    image = np.maximum(photograph(*disc), 25)
    assert np.abs(np.array(box_of(image)) - expected(*disc)).max() <= 5


def test_a_margin_stays_around_the_disc():
    disc = DISCS["inside"]
    found = np.array(box_of(photograph(*disc), margin=0.05))
    wider = expected(*disc) + np.array([-25, 25, -25, 25])
    assert np.abs(found - wider).max() <= 5


def test_a_margin_ends_at_the_border():
    assert box_of(photograph(*DISCS["inside"]), margin=1.0) == (0, 600, 0, 900)


def test_a_higher_threshold_takes_dim_light_for_surround():
    image = photograph(*DISCS["inside"])
    image[:, 100:220] = np.maximum(image[:, 100:220], 40)
    assert box_of(image)[2] < 120
    assert box_of(image, threshold=0.5)[2] > 190


@pytest.mark.parametrize(
    ("size", "cell"),
    [((600, 4128), 8), ((1000, 2048), 4), ((502, 2048), 2), ((501, 2048), 1), ((600, 900), 1)],
)
def test_the_cut_lies_on_squares_that_a_halved_photograph_has_too(size, cell):
    height, width = size
    boxes = []
    for seed in range(3):
        centre = height // 2 + 13 * seed, width // 2 - 29 * seed
        boxes.append(box_of(photograph(height, width, int(0.4 * height) - seed, centre)))
    assert not (np.array(boxes) % cell).any()
    assert (np.array(boxes) % (2 * cell)).any()


@pytest.mark.parametrize("scale", [2, 4])
def test_the_disc_of_a_reduced_photograph_is_cut_at_the_same_place(scale):
    same = 0
    for seed in range(8):
        image = photograph(1024, 2048, 400 + 7 * seed, (512 + 3 * seed, 900 + 11 * seed))
        parts = image.reshape(1024 // scale, scale, 2048 // scale, scale, 3)
        whole, less = box_of(image), box_of(parts.mean(axis=(1, 3)).round().astype(np.uint8))
        off = np.abs(np.array(whole) - scale * np.array(less))
        assert off.max() <= 4  # one square: a line at the rim that is lit just enough, or not
        same += (off == 0).sum()
    assert same >= 28


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((60, 80, 3), np.uint8),
        np.full((60, 80, 3), 200, np.uint8),
        np.random.default_rng(0).integers(60, 255, (700, 800, 3), dtype=np.uint8),
        np.zeros((1, 1, 3), np.uint8),
    ],
    ids=["black", "white", "no surround", "one pixel"],
)
def test_an_image_without_a_disc_stays(image):
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert torch.equal(CropToFundus().apply(tensor), tensor)


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason=f"no photographs in {PHOTOGRAPHS}")
@pytest.mark.parametrize("name", ["10_right", "17_left", "367_right", "458_left"])
def test_the_box_of_a_real_retina_is_pillows(name):
    photo = Image.open(PHOTOGRAPHS / f"{name}.jpeg").convert("RGB")
    red = photo.getchannel("R").point(lambda value: 255 * (value > 20))
    left, top, right, bottom = red.reduce(3).point(lambda value: 255 * (value > 127)).getbbox()
    found = np.array(box_of(np.array(photo)))
    assert np.abs(found - 3 * np.array([top, bottom, left, right])).max() <= 0.015 * photo.width


# --- grayscale


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_is_pillows_luma(channels):
    image = picture(64, 64)
    wanted = from_pil(as_pil(image).convert("L"))
    assert torch.equal(Grayscale(channels=channels).apply(image), wanted.repeat(channels, 1, 1))
    assert difference(Grayscale(channels=1).apply(image), reference.rgb_to_grayscale(image)) <= 1


def test_grey_of_grey_is_the_same():
    image = picture(9, 9, channels=1)
    assert torch.equal(Grayscale(channels=3).apply(image), image.repeat(3, 1, 1))


# --- what each needs


def test_a_resize_needs_its_own_size_whatever_follows():
    for fit in ("stretch", "pad", "cover"):
        component = Resize(size=(30, 40), fit=fit)
        assert (
            component.required_input_size(None) == component.required_input_size((7, 9)) == (30, 40)
        )


def test_what_counts_pixels_needs_them_all():
    assert CenterCrop(size=5).required_input_size((5, 5)) is None
    assert CropToFundus().required_input_size(None) is None
    assert Grayscale().required_input_size(None) is None


def test_a_disc_may_fill_but_half_of_a_side():
    assert CropToFundus().required_input_size((400, 301)) == (800, 602)
    assert CropToFundus().required_input_size((9, 9)) == (512, 512)
    assert Grayscale().required_input_size((9, 7)) == (9, 7)
