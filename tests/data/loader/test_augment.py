from __future__ import annotations

import numpy as np
import pytest
import torch

import sightx
import sightx.plugin
from sightx.builtin.augment import ColorJitter, Crop, Flip, Rotate, Shift
from sightx.data.loader.augment import augment, compose, transform
from sightx.plugin import Augment
from support.hostile import hostile, refused

SIZE = (48, 71)
CHAIN = [
    Flip(vertical=0.5),
    Rotate(degrees=180.0),
    Crop(scale=(0.5, 1.0)),
    ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
]


def rng(seed=0):
    return np.random.default_rng(seed)


def pictures(n=4, size=SIZE):
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(n))


def waves(points):
    """Return a smooth picture at points (..., 2) in pixels from the centre."""
    x, y = points.unbind(-1)
    return 0.5 + 0.25 * torch.sin(x / 7) + 0.25 * torch.cos(y / 5 + x / 11)


def centred(size):
    y, x = (torch.arange(length).double() - (length - 1) / 2 for length in size)
    return torch.stack(torch.broadcast_tensors(x, y[:, None]), dim=-1)


def moved(matrix, points):
    return points @ matrix[:, :2].T + matrix[:, 2]


def test_nothing_to_do_changes_nothing():
    images, targets = pictures(), torch.arange(4)
    same, kept = augment(images, targets, [], rng())
    assert same is images
    assert kept is targets


def test_the_same_generator_gives_the_same_batch_and_another_one_another():
    images, targets = pictures(), torch.arange(4)
    one, _ = augment(images, targets, CHAIN, rng())
    same, _ = augment(images, targets, CHAIN, rng())
    other, _ = augment(images, targets, CHAIN, rng(1))
    assert torch.equal(one, same)
    assert (one - other).abs().max() > 0.1
    assert one.shape == images.shape


def test_no_two_samples_share_a_draw():  # D23
    images = pictures(1).expand(16, -1, -1, -1)
    changed, _ = augment(images, torch.zeros(16), CHAIN, rng())
    apart = torch.cdist(changed.flatten(1), changed.flatten(1)) + 1e9 * torch.eye(16)
    assert apart.min() > 1


def test_the_input_stays_as_it_is():
    images = pictures()
    before = images.clone()
    for chain in ([Flip(horizontal=1.0)], CHAIN, CHAIN[3:]):
        augment(images, torch.zeros(4), chain, rng())
        assert torch.equal(images, before)


def test_a_matrix_leads_from_output_to_input_in_pixels_from_the_centre():
    matrix = torch.tensor([[0.8, -0.3, 2.5], [0.2, 0.7, -4.0]]).double()
    image = waves(centred(SIZE))[None, None].float()
    found = transform(image, matrix[None])[0, 0]
    points = moved(matrix, centred(SIZE))
    inside = (points.abs() <= torch.tensor([SIZE[1] - 1, SIZE[0] - 1]) / 2).all(-1)
    assert (found - waves(points))[inside].abs().max() < 0.01  # of bilinear interpolation
    outside = (points.abs() >= torch.tensor([SIZE[1] + 1, SIZE[0] + 1]) / 2).any(-1)
    assert (found[outside] == 0).all()
    assert inside.any()


def test_a_composition_is_one_change_after_the_other():
    components = [Crop(scale=(0.4, 0.8)), Rotate(degrees=40.0), Shift(pixels=3), Flip()]
    generator = rng()
    params = [component.draw(6, generator) for component in components]
    matrices = [
        component.matrix(drawn, SIZE) for component, drawn in zip(components, params, strict=True)
    ]
    points = centred(SIZE)
    whole = compose(matrices)
    for sample in range(6):
        at = points  # of the last picture; each change asks the one before it
        for matrix in reversed(matrices):
            at = moved(matrix[sample].double(), at)
        assert (moved(whole[sample], points) - at).abs().max() < 1e-9


def test_a_chain_is_sampled_once_and_means_the_sequence():
    image = waves(centred((90, 120)))[None, None].float().expand(8, 1, 90, 120)
    chain = [Crop(scale=(0.5, 0.9)), Rotate(degrees=60.0), Flip()]
    once, _ = augment(image, torch.zeros(8), chain, rng())
    generator, stepwise = rng(), image
    for component in chain:  # draws in the same order, sampled three times
        stepwise, _ = augment(stepwise, torch.zeros(8), [component], generator)
    lit = (once > 0.02) & (stepwise > 0.02)
    assert (once - stepwise)[lit].abs().median() < 0.002
    assert lit.float().mean() > 0.5


def test_geometry_comes_before_colours_wherever_it_is_named():
    images = pictures()
    order = [ColorJitter(contrast=0.9), Rotate(degrees=45.0)]
    found, _ = augment(images, torch.zeros(4), order, rng())
    generator = rng()
    colours = order[0].draw(4, generator)
    turned = transform(images, order[1].matrix(order[1].draw(4, generator), SIZE).double())
    wanted, _ = order[0].apply(turned, torch.zeros(4), colours, classes=2)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("n", [1, 33])
def test_flips_alone_keep_every_bit(n):
    images = pictures(n)
    chain = [Flip(vertical=0.5), Flip(vertical=0.5)]
    found, _ = augment(images, torch.zeros(n), chain, rng())
    generator = rng()
    first, second = (component.draw(n, generator) for component in chain)
    for index, image in enumerate(images):
        axes = [
            axis for axis, key in ((-1, "x"), (-2, "y")) if first[key][index] != second[key][index]
        ]
        assert torch.equal(found[index], image.flip(axes))


def test_one_turned_sample_does_not_blur_a_flipped_one():
    images = pictures(2)
    matrices = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]], [[0.6, -0.8, 0], [0.8, 0.6, 0]]]).double()
    assert (transform(images, matrices)[0] - images[0].flip(-1)).abs().max() < 1e-4


class Smooth(Augment):
    """Mix the targets with those of the next sample."""

    name = "smooth"

    def draw(self, n):
        return {"share": np.full(n, 0.25)}

    def apply(self, targets, images, params):
        share = torch.from_numpy(params["share"]).float()
        return images.roll(1, 0), targets * (1 - share) + targets.roll(1, 0) * share


def test_a_component_may_use_and_change_targets():
    images, targets = pictures(), torch.tensor([0.0, 1.0, 2.0, 3.0])
    found, mixed = augment(images, targets, [Smooth()], rng())
    assert torch.equal(found, images.roll(1, 0))
    assert mixed.tolist() == [0.75, 0.75, 1.75, 2.75]


PIXELS, LABELS = torch.full((4, 3, 5, 6), 0.5), torch.tensor([0, 1, 1, 0])
MIXED = torch.tensor([[0.5, 0.5]] * 4)


@pytest.mark.parametrize(
    ("result", "part"),
    [
        (PIXELS, "a Tensor; return images, targets"),
        ((PIXELS[::2], LABELS[::2]), "images float32 (2, 3, 5, 6)"),
        ((PIXELS.double(), LABELS), "images float64"),
        ((PIXELS * 255, LABELS), "pixels from 128 to 128"),
        ((PIXELS, LABELS.float()), "targets float32 (4,)"),
        ((PIXELS, LABELS + 7), "targets from 7 to 8"),
        ((PIXELS, LABELS - 1), "targets from -1 to 0"),
        ((PIXELS, MIXED), "mixed targets; set mixes = True"),
        ((PIXELS, torch.zeros(4, 5)), "targets float32 (4, 5)"),
    ],
)
def test_a_wrong_batch_is_refused_with_the_name_of_the_component(result, part) -> None:
    broken = hostile(Augment, draw={}, apply=result)
    refused(lambda: augment(PIXELS, LABELS, [broken], rng(), classes=2, check_values=True), part)


@pytest.mark.parametrize(
    ("matrix", "part"),
    [
        (torch.eye(2, 3), "(2, 3); return a tensor (4, 2, 3)"),
        (np.zeros((4, 2, 3)), "an array; return a tensor (4, 2, 3)"),
        (torch.full((4, 2, 3), float("nan")), "a map that is not finite"),
    ],
)
def test_a_wrong_map_is_refused_with_the_name_of_the_component(matrix, part) -> None:
    broken = hostile(Augment, draw={}, matrix=matrix)
    refused(lambda: augment(PIXELS, LABELS, [broken], rng(), check_values=True), part)


@pytest.mark.skipif(
    not (torch.cuda.is_available() or torch.backends.mps.is_available()), reason="no accelerator"
)
def test_an_accelerator_gives_the_same_as_the_cpu():
    device = "cuda" if torch.cuda.is_available() else "mps"
    images, targets = pictures(16), torch.arange(16)
    for chain in (CHAIN, [Flip()]):
        wanted, _ = augment(images, targets, chain, rng())
        found, _ = augment(images.to(device), targets.to(device), chain, rng())
        assert found.device.type == device
        assert (found.cpu() - wanted).abs().max() < 2e-3


def test_random_numbers_are_moved_to_the_device_unchanged():
    values = torch.rand(3, 2).T
    sent = sightx.plugin.to_device(values, torch.device("cpu"))
    assert torch.equal(sent, values)
    assert sent.dtype == values.dtype


@pytest.mark.gpu
def test_moving_random_numbers_to_a_gpu_does_not_wait():
    images, targets = pictures(16).cuda(), torch.arange(16).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for chain in (CHAIN, [Flip()]):
            augment(images, targets, chain, rng())
    finally:
        torch.cuda.set_sync_debug_mode("default")
