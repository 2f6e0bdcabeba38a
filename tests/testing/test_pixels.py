from __future__ import annotations

import numpy as np
import pytest
import torch

from sightx import SpecError
from sightx.builtin.augment import ColorJitter
from sightx.plugin import Augment, Normalize, Problem
from sightx.testing import pixels
from sightx.testing.demands import find


class N(Normalize):
    """Give what a test says."""

    name = "n"

    def statistics(self, *, model, training_rows):
        channels = training_rows.shape[0]
        return (0.5,) * channels, (0.2,) * channels


class ThreeOnly(N):
    def statistics(self):
        return (0.5,) * 3, (0.2,) * 3


class Measuring(N):
    def statistics(self, *, training_rows):
        values = training_rows.pixels.tensor.float().movedim(1, 0).flatten(1) / 255
        return tuple(values.mean(1).tolist()), tuple(values.std(1).tolist())


class NotANumber(N):
    def statistics(self, *, training_rows):
        mean, deviation = super().statistics(model=None, training_rows=training_rows)
        return (float("nan"),) * len(mean), deviation


class Numpy(N):
    def statistics(self, *, training_rows):
        mean, deviation = super().statistics(model=None, training_rows=training_rows)
        return tuple(np.float64(each) for each in mean), deviation


class Refusing(N):
    def statistics(self, *, training_rows):
        raise SpecError(Problem("no", "never"))


class Wandering(N):
    def statistics(self, *, training_rows):
        mean, deviation = super().statistics(model=None, training_rows=training_rows)
        return tuple(float(torch.rand(())) for _ in mean), deviation


class Blackening(N):
    def statistics(self, *, model, training_rows):
        training_rows.pixels.tensor.zero_()
        return super().statistics(model=model, training_rows=training_rows)


class A(Augment):
    """Do what a test says."""

    name = "a"

    def draw(self, n, rng):
        return {"level": rng.uniform(0.2, 0.8, n)}

    def apply(self, images, targets, params):
        level = torch.from_numpy(params["level"]).float().view(-1, 1, 1, 1)
        return images * level, targets


class OneForAll(A):
    def draw(self, n, rng):
        return {"level": rng.uniform(0.2, 0.8, 1)}


class OwnRandom(A):
    def draw(self, n, rng):
        return {"level": np.random.default_rng().uniform(0.2, 0.8, n)}


class Alike(A):
    def draw(self, n, rng):
        return {"level": np.full(n, rng.uniform(0.2, 0.8))}


class Theta(A):
    def matrix(self, params):
        return torch.eye(3).expand(len(params["level"]), 3, 3)


class Flattening(A):
    def matrix(self, params):
        return torch.zeros(len(params["level"]), 2, 3)


class Infinite(A):
    def matrix(self, params):
        return torch.full((len(params["level"]), 2, 3), float("inf"))


class SquareOnly(A):
    def matrix(self, params, size):
        assert size[0] == size[1], "only squares"


class Doubling(A):
    def apply(self, images, targets):
        return images * 2, targets


class Halving(A):
    def apply(self, images, targets):
        return images.half(), targets


class Cropping(A):
    def apply(self, images, targets):
        return images[:, :, :4], targets


class Relabelling(A):
    def apply(self, images, targets):
        return images, targets + 1


class BadlyMixing(A):
    def apply(self, images, targets):
        return images, torch.ones(len(targets), 3)


class WellMixing(A):
    def apply(self, images, targets):
        return (images + images.flip(0)) / 2, torch.full((len(targets), 3), 1 / 3)


class Noisy(A):
    def apply(self, images, targets):
        return torch.rand_like(images), targets


class Idle(A):
    def apply(self, images, targets):
        return images, targets


BROKEN = [
    (pixels.one_number_a_channel, ThreeOnly(), "one float for each of 1 channels"),
    (pixels.one_number_a_channel, Measuring(), "pixels are divided by them"),
    (pixels.one_number_a_channel, NotANumber(), "they must be finite"),
    (pixels.one_number_a_channel, Numpy(), "give one float for each"),
    (pixels.one_number_a_channel, Refusing(), "it refuses images of three channels and of one"),
    (pixels.statistics_repeat, Wandering(), "statistics() gives"),
    (pixels.statistics_repeat, Blackening(), "changes the pixels"),
    (pixels.draws_are_one_a_sample, OneForAll(), "draw(5) gives 'level' of shape (1,)"),
    (pixels.draws_repeat, OwnRandom(), "take every number from rng"),
    (pixels.samples_differ, Alike(), "all 64 samples get the same draw"),
    (pixels.geometry_is_a_map, Theta(), "must return a tensor (64, 2, 3)"),
    (pixels.geometry_is_a_map, Flattening(), "must be invertible"),
    (pixels.geometry_is_a_map, Infinite(), "not finite"),
    (pixels.geometry_is_a_map, SquareOnly(), "only squares"),
    (pixels.images_stay_images, Doubling(), "clamp"),
    (pixels.images_stay_images, Halving(), "keep torch.float32 (64, 3, 8, 12)"),
    (pixels.images_stay_images, Cropping(), "keep torch.float32 (64, 3, 8, 12)"),
    (pixels.images_stay_images, Relabelling(), "targets must stay"),
    (pixels.images_stay_images, BadlyMixing(), "become probabilities"),
    (pixels.apply_repeats, Noisy(), "draw in draw(), from rng"),
    (pixels.something_changes, Idle(), "neither matrix() nor apply()"),
    (pixels.something_changes, ColorJitter(), "give settings under which it does"),
]


@pytest.mark.parametrize(("check", "broken", "words"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_promise_is_found(caught, check, broken, words) -> None:
    caught(check, broken, words)


def test_the_table_of_broken_components_is_whole() -> None:
    every = {*pixels.NORMALIZE, *pixels.AUGMENT}
    assert {row[0] for row in BROKEN} == every


def test_what_differs_from_the_ordinary_may_pass() -> None:
    for check in pixels.AUGMENT:
        assert find(check, WellMixing()).ok
        assert find(check, A()).ok
    assert find(pixels.one_number_a_channel, N()).ok
