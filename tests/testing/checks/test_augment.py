from __future__ import annotations

import numpy as np
import pytest
import torch

from sightx.builtin.augment import ColorJitter
from sightx.plugin import Augment
from sightx.testing.assertions import run_check
from sightx.testing.checks import augment as checks


class A(Augment):
    """Behave as a test requires."""

    name = "a"

    def draw(self, n, rng):
        return {"level": rng.uniform(0.2, 0.8, n)}

    def apply(self, images, targets, params):
        level = torch.from_numpy(params["level"]).float().view(-1, 1, 1, 1).to(images.device)
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
    mixes = True

    def apply(self, images, targets):
        return images, torch.ones(len(targets), 3)


class WellMixing(A):
    mixes = True

    def apply(self, images, targets):
        return (images + images.flip(0)) / 2, torch.full((len(targets), 3), 1 / 3)


class UndeclaredMixing(WellMixing):
    mixes = False


class Noisy(A):
    def apply(self, images, targets):
        return torch.rand_like(images), targets


class Idle(A):
    def apply(self, images, targets):
        return images, targets


class OnTheCpu(A):
    def apply(self, images, targets, params):
        level = torch.from_numpy(params["level"]).float().view(-1, 1, 1, 1)
        return images * level, targets


class Reading(A):
    def apply(self, images, targets):
        return images / max(images.max().item(), 1), targets


class MovingTargets(A):
    def apply(self, images, targets):
        return images * 0.5, torch.zeros_like(targets, device="cpu")


BROKEN = [
    (checks.apply_works_on_any_device, OnTheCpu(), "create tensors on the device of the input"),
    (checks.apply_works_on_any_device, Reading(), "Tensor.item() cannot be called on meta"),
    (checks.apply_works_on_any_device, MovingTargets(), "returns tensors on another device"),
    (checks.draws_are_per_sample, OneForAll(), "draw(5) returns 'level' with shape (1,)"),
    (checks.draws_use_given_rng, OwnRandom(), "take all random numbers from rng"),
    (checks.samples_get_different_draws, Alike(), "all 64 samples get the same draw"),
    (checks.matrices_are_valid, Theta(), "must return a tensor (64, 2, 3)"),
    (checks.matrices_are_valid, Flattening(), "is not invertible"),
    (checks.matrices_are_valid, Infinite(), "not finite"),
    (checks.matrices_are_valid, SquareOnly(), "only squares"),
    (checks.images_stay_valid, Doubling(), "clamp"),
    (checks.images_stay_valid, Halving(), "keep torch.float32 (64, 3, 8, 12)"),
    (checks.images_stay_valid, Cropping(), "keep torch.float32 (64, 3, 8, 12)"),
    (checks.images_stay_valid, Relabelling(), "targets must not change"),
    (checks.images_stay_valid, BadlyMixing(), "become probabilities"),
    (checks.images_stay_valid, UndeclaredMixing(), "set mixes = True"),
    (checks.apply_is_deterministic, Noisy(), "draw in draw(), from rng"),
    (checks.augmentation_has_an_effect, Idle(), "neither matrix() nor apply()"),
    (checks.augmentation_has_an_effect, ColorJitter(), "pass settings with which it does"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_component_passes() -> None:
    results = [run_check(check, A()) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
