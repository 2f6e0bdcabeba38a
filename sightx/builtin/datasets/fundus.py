"""Render synthetic photographs of the retina, graded for diabetic retinopathy.

Everything is a pure function of its arguments: the same call gives the same bytes. Both eyes of a
patient share the pigment, the vessels (mirrored), the optic disc and the camera; the grade adds
lesions to an eye and changes nothing else in its picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .fundus_anatomy import Anatomy, Floats, Plane, Stencil, View, blobs, draw_anatomy, stream
from .fundus_lesions import lesions

Eye: TypeAlias = Literal["left", "right"]
Colour: TypeAlias = tuple[float, float, float]
Picture: TypeAlias = NDArray[np.float32]  # (size, size, 3), 0 to 1

_SHARES = (0.73, 0.07, 0.15, 0.025, 0.02)
PREVALENCE = tuple(share / sum(_SHARES) for share in _SHARES)
"""How often each grade, 0 to 4, occurs in one eye; as among the photographs of EyePACS."""

_UNLIKE = 1 / 3  # how often the other eye is offered the grade below, and as often the one above
_PIGMENTS = np.array([(0.86, 0.47, 0.22), (0.66, 0.33, 0.17), (0.74, 0.49, 0.38)])
_FLOWING = (0.28, 0.52, 0.46)  # what share of red, green and blue blood swallows
_CLOTTED = (0.47, 0.80, 0.78)
_DUST = (0.55, 0.55, 0.55)
_EXUDATE = (1.0, 0.92, 0.55)
_VEIL = (0.48, 0.42, 0.38)  # what a clouded lens adds
_COTTON = (0.93, 0.88, 0.76)


@dataclass(frozen=True)
class Patient:
    """Hold what both eyes of one patient share; lengths in radii of the field of view."""

    pigment: Floats
    mottling: float
    contrast: float
    anatomy: Anatomy
    radius: float
    cut: float
    exposure: float
    balance: Floats
    haze: float
    veil: float
    blur: float
    noise: float
    dust: Floats


def grade_of(seed: int, patient: int) -> tuple[int, int]:
    """Return the grades, 0 to 4, of the left and the right eye.

    The left eye follows the prevalence. The right eye makes one Metropolis step from there: it is
    offered a neighbouring grade and takes it as often as that grade is common. Such steps keep the
    distribution, so both eyes follow the prevalence exactly, and they mostly agree.
    """
    rng = stream("grade", seed, patient)
    left = int(np.searchsorted(np.cumsum(PREVALENCE)[:-1], rng.random(), side="right"))
    offer = rng.random()
    step = -1 if offer < _UNLIKE else 1 if offer < 2 * _UNLIKE else 0
    right = left + step
    if not 0 <= right < len(PREVALENCE):
        return left, left
    taken = rng.random() * PREVALENCE[left] < PREVALENCE[right]
    return left, right if taken else left


def render(seed: int, patient: int, eye: Eye, grade: int, size: int) -> NDArray[np.uint8]:
    """Return the photograph of one eye, uint8 (size, size, 3) RGB."""
    person = _patient(seed, patient)
    view = _view(stream("view", seed, patient, eye), person, eye, size)
    rng = stream("camera", seed, patient, eye)
    picture = _retina(rng, person, view)
    sick = stream("lesions", seed, patient, eye)
    _spoil(sick, picture, person, view, grade)
    picture *= _light(rng, view)[..., None]
    _stray_light(rng, picture, person, view)
    _stain(picture, _dust(stream("dust", seed, patient), person, view), _DUST)
    picture *= (person.balance * person.exposure * rng.uniform(0.88, 1.12)).astype(np.float32)
    return _expose(rng, picture, person, view)


def _patient(seed: int, patient: int) -> Patient:
    """Draw what both eyes share."""
    rng = stream("patient", seed, patient)
    shares = rng.random(3) ** 2
    cut = rng.uniform(0.74, 0.92) if rng.random() < 0.5 else 2.0
    return Patient(
        pigment=(shares[:, None] * _PIGMENTS).sum(axis=0) / shares.sum(),
        mottling=rng.uniform(0.03, 0.13),
        contrast=rng.uniform(0.6, 1.0),
        anatomy=draw_anatomy(rng),
        radius=rng.uniform(0.46, 0.51),
        cut=cut,
        exposure=rng.uniform(0.6, 1.2),
        balance=rng.uniform(0.9, 1.1, 3),
        haze=rng.random() ** 2,
        veil=0.45 * rng.random() ** 2,
        blur=0.8 * rng.random() ** 2,
        noise=rng.uniform(0.5, 2.0),
        dust=rng.uniform(-0.7, 0.7, (max(0, int(rng.integers(-6, 5))), 2)),
    )


def _view(rng: np.random.Generator, person: Patient, eye: Eye, size: int) -> View:
    """Point the camera: neither eye is centred nor upright."""
    half = rng.uniform(-0.06, 0.06)  # tangent of half the angle gives an exact unit vector
    tilt = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    x, y = size * (0.5 + rng.uniform(-0.015, 0.015, 2))
    gaze = rng.uniform(-0.1, 0.1), rng.uniform(-0.07, 0.07)
    side = 1 if eye == "left" else -1
    return View(size, (float(x), float(y)), person.radius * size, side, tilt, gaze)


def _retina(rng: np.random.Generator, person: Patient, view: View) -> Picture:
    """Paint pigment, macula, optic disc and vessels, (size, size, 3)."""
    x, y = view.retina()
    macula = _squared(x, y, person.anatomy.macula)
    disc = _squared(x, y, person.anatomy.disc)
    tone = 1 + person.mottling * (_mottle(rng, view.size, 5) + 0.7 * _mottle(rng, view.size, 17))
    tone *= 1 - 0.34 * _glow(macula, 0.24) - 0.25 * _glow(macula, 0.055)
    tone *= 1 + 0.22 * _glow(disc, 0.36)
    picture: Picture = np.asarray(tone[..., None] * person.pigment, dtype=np.float32)
    _paint_disc(picture, person, disc, x, y)
    blood = (
        person.anatomy.tree.coverage(view) * np.float32(person.contrast) * (1 - _glow(macula, 0.08))
    )
    _stain(picture, blood * (1 - 0.45 * _inside(disc, person.anatomy.disc_radius, 0.03)), _FLOWING)
    return picture


def _paint_disc(picture: Picture, person: Patient, disc: Plane, x: Plane, y: Plane) -> None:
    """Paint the optic disc and its paler cup over the retina."""
    radius = person.anatomy.disc_radius
    cup = _squared(x, y, person.anatomy.disc + np.array([0.12 * radius, 0.0]))
    _cover(picture, 0.85 * _inside(disc, radius, 0.022), (0.98, 0.74, 0.46))
    _cover(picture, 0.75 * _inside(cup, 0.5 * radius, 0.04), (1.0, 0.93, 0.72))


def _spoil(
    rng: np.random.Generator, picture: Picture, person: Patient, view: View, grade: int
) -> None:
    """Add the lesions of the grade to a retina, in place."""
    if grade == 0:
        return
    found = lesions(rng, view, person.anatomy, grade)
    _cover(picture, 0.6 * found.cotton, _COTTON)
    _stain(picture, found.blood, _CLOTTED)
    _cover(picture, 0.9 * found.exudate, _EXUDATE)


def _light(rng: np.random.Generator, view: View) -> Plane:
    """Return how bright the flash lights every pixel, (size, size): uneven, and never centred."""
    x, y = view.field()
    hot = rng.uniform(-0.35, 0.35, 2)
    lamp = 1.12 / (1 + np.float32(rng.uniform(0.15, 1.0)) * _squared(x, y, hot))
    slope = rng.uniform(-0.25, 0.25, 2).astype(np.float32)
    return np.asarray(lamp * (1 + slope[0] * x + slope[1] * y))


def _stray_light(rng: np.random.Generator, picture: Picture, person: Patient, view: View) -> None:
    """Add what never came from the retina: a bluish rim, a reflex and a leak below, in place."""
    x, y = view.field()
    picture += np.float32(person.veil) * (np.array(_VEIL, np.float32) - picture)
    rim = np.clip((_squared(x, y, np.zeros(2)) - 0.45) / 0.55, 0, 1)
    picture += (0.3 * person.haze * rim * rim)[..., None] * np.array([0.5, 0.8, 1.0], np.float32)
    reflex, leak = rng.random(2)
    spot = _glow(_squared(x, y, rng.uniform(-0.3, 0.3, 2)), 0.16)
    if reflex < 0.15:
        picture += (0.22 * spot)[..., None] * np.array([0.7, 0.85, 1.0], np.float32)
    edge = np.clip((y - np.float32(rng.uniform(0.62, 0.8))) / np.float32(0.22), 0, 1)
    if leak < 0.1:
        picture += (0.6 * edge * edge)[..., None] * np.array([1.0, 0.75, 0.4], np.float32)


def _dust(rng: np.random.Generator, person: Patient, view: View) -> Plane:
    """Return what dust in the camera covers, (size, size): the same places in both eyes."""
    camera = replace(view, side=1, tilt=(1.0, 0.0), gaze=(0.0, 0.0))
    specks = blobs(rng, camera, person.dust, (0.014, 0.03), 0.2)
    return Stencil(camera).fill(specks, rng.uniform(0.3, 0.9, len(specks))).coverage(0.012)


def _expose(
    rng: np.random.Generator, picture: Picture, person: Patient, view: View
) -> NDArray[np.uint8]:
    """Blur, add noise, cut the field of view out and round to bytes, (size, size, 3)."""
    sharp = Image.fromarray(np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    blurred = sharp.filter(ImageFilter.GaussianBlur(person.blur * view.size / 96))
    # Two uniforms make a triangular noise: close to a normal one, and without transcendentals.
    grain = rng.random((2, *picture.shape), dtype=np.float32)
    noisy = np.asarray(blurred) + np.float32(2 * person.noise) * (grain[0] - grain[1])
    x, y = view.field()
    hard = np.float32(1.5 / view.radius)
    window = _inside(_squared(x, y, np.zeros(2)), 1.0, hard)
    window *= np.clip((np.float32(person.cut) - np.abs(y)) / hard, 0, 1)
    return np.asarray(np.rint(np.clip(noisy * window[..., None], 0, 255)), dtype=np.uint8)


def _squared(x: Plane, y: Plane, place: Floats) -> Plane:
    """Return the squared distance of every pixel from a place, (size, size)."""
    across, down = place.astype(np.float32)
    return np.asarray((x - across) ** 2 + (y - down) ** 2)


def _glow(squared: Plane, radius: float) -> Plane:
    """Return a bell of height 1 that a radius wide falls to a quarter, (size, size)."""
    return np.asarray(1 / (1 + squared / np.float32(radius * radius)) ** 2)


def _inside(squared: Plane, radius: float, soft: float | np.float32) -> Plane:
    """Return 1 inside a circle and 0 outside, with an edge `soft` wide, (size, size)."""
    ramp = (np.float32(radius) - np.sqrt(squared)) / np.float32(soft) + np.float32(0.5)
    return np.asarray(np.clip(ramp, 0, 1))


def _mottle(rng: np.random.Generator, size: int, cells: int) -> Plane:
    """Return smooth noise of `cells` bumps a side, (size, size), -1 to 1."""
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    smooth = coarse.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32) / np.float32(127.5) - 1


def _stain(picture: Picture, blood: Plane, colour: Colour) -> None:
    """Let blood, (size, size), swallow the light of the retina below, in place."""
    picture *= 1 - blood[..., None] * np.array(colour, np.float32)


def _cover(picture: Picture, paint: Plane, colour: Colour) -> None:
    """Lay an opaque colour over the retina where `paint`, (size, size), is, in place."""
    picture += paint[..., None] * (np.array(colour, np.float32) - picture)
