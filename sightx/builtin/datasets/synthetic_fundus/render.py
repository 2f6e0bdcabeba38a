"""Render photographs of the retina, graded for diabetic retinopathy.

All functions are pure: the same call gives the same bytes. Both eyes of a patient share the
pigment, the vessels (mirrored), the optic disc and the camera. The grade adds lesions to an eye
and changes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .anatomy import Anatomy, Floats, Plane, Stencil, View, blobs, draw_anatomy, stream
from .lesions import draw_lesions

Eye: TypeAlias = Literal["left", "right"]
Colour: TypeAlias = tuple[float, float, float]
Picture: TypeAlias = NDArray[np.float32]  # (size, size, 3), 0 to 1

_SHARES = (0.73, 0.07, 0.15, 0.025, 0.02)
PREVALENCE = tuple(share / sum(_SHARES) for share in _SHARES)
"""Fraction of the eyes with each grade, 0 to 4, as in EyePACS."""

_STEP_PROBABILITY = 1 / 3  # of proposing the next lower grade for the other eye, or the next higher
_PIGMENTS = np.array([(0.86, 0.47, 0.22), (0.66, 0.33, 0.17), (0.74, 0.49, 0.38)])
_FLOWING = (0.28, 0.52, 0.46)  # fraction of red, green and blue light that blood absorbs
_CLOTTED = (0.47, 0.80, 0.78)
_DUST = (0.55, 0.55, 0.55)
_EXUDATE = (1.0, 0.92, 0.55)
_VEIL = (0.48, 0.42, 0.38)  # light scattered by a clouded lens
_COTTON = (0.93, 0.88, 0.76)


@dataclass(frozen=True)
class Patient:
    """The properties that both eyes of a patient share; lengths in radii of the field of view."""

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

    The left eye is drawn from the prevalence. The right eye makes one Metropolis step from there:
    a neighbouring grade is proposed and accepted according to its prevalence. The step preserves
    the distribution, so that both eyes follow the prevalence and mostly agree.
    """
    rng = stream("grade", seed, patient)
    left = int(np.searchsorted(np.cumsum(PREVALENCE)[:-1], rng.random(), side="right"))
    proposal = rng.random()
    step = -1 if proposal < _STEP_PROBABILITY else 1 if proposal < 2 * _STEP_PROBABILITY else 0
    right = left + step
    if not 0 <= right < len(PREVALENCE):
        return left, left
    accepted = rng.random() * PREVALENCE[left] < PREVALENCE[right]
    return left, right if accepted else left


def render(seed: int, patient: int, eye: Eye, grade: int, size: int) -> NDArray[np.uint8]:
    """Return the photograph of one eye, uint8 (size, size, 3) RGB."""
    person = _patient(seed, patient)
    view = _view(stream("view", seed, patient, eye), person, eye, size)
    rng = stream("camera", seed, patient, eye)
    picture = _retina(rng, person, view)
    _add_lesions(stream("lesions", seed, patient, eye), picture, person, view, grade)
    picture *= _illumination(rng, view)[..., None]
    _add_stray_light(rng, picture, person, view)
    _absorb(picture, _dust(stream("dust", seed, patient), person, view), _DUST)
    picture *= (person.balance * person.exposure * rng.uniform(0.88, 1.12)).astype(np.float32)
    return _expose(rng, picture, person, view)


def _patient(seed: int, patient: int) -> Patient:
    """Draw the properties that both eyes share."""
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
    """Return where the camera points: neither exactly at the centre nor upright."""
    half = rng.uniform(-0.06, 0.06)  # the tangent of half the angle gives an exact unit vector
    tilt = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    x, y = size * (0.5 + rng.uniform(-0.015, 0.015, 2))
    gaze = rng.uniform(-0.1, 0.1), rng.uniform(-0.07, 0.07)
    mirror = 1 if eye == "left" else -1
    return View(size, (float(x), float(y)), person.radius * size, mirror, tilt, gaze)


def _retina(rng: np.random.Generator, person: Patient, view: View) -> Picture:
    """Return pigment, macula, optic disc and vessels, (size, size, 3)."""
    x, y = view.retina()
    macula = _squared_distance(x, y, person.anatomy.macula)
    disc = _squared_distance(x, y, person.anatomy.disc)
    tone = 1 + person.mottling * (
        _smooth_noise(rng, view.size, 5) + 0.7 * _smooth_noise(rng, view.size, 17)
    )
    tone *= 1 - 0.34 * _bell(macula, 0.24) - 0.25 * _bell(macula, 0.055)
    tone *= 1 + 0.22 * _bell(disc, 0.36)
    picture: Picture = np.asarray(tone[..., None] * person.pigment, dtype=np.float32)
    _paint_disc(picture, person, disc, x, y)
    blood = (
        person.anatomy.tree.coverage(view) * np.float32(person.contrast) * (1 - _bell(macula, 0.08))
    )
    _absorb(picture, blood * (1 - 0.45 * _inside(disc, person.anatomy.disc_radius, 0.03)), _FLOWING)
    return picture


def _paint_disc(picture: Picture, person: Patient, disc: Plane, x: Plane, y: Plane) -> None:
    """Paint the optic disc and its paler cup over the retina."""
    radius = person.anatomy.disc_radius
    cup = _squared_distance(x, y, person.anatomy.disc + np.array([0.12 * radius, 0.0]))
    _blend(picture, 0.85 * _inside(disc, radius, 0.022), (0.98, 0.74, 0.46))
    _blend(picture, 0.75 * _inside(cup, 0.5 * radius, 0.04), (1.0, 0.93, 0.72))


def _add_lesions(
    rng: np.random.Generator, picture: Picture, person: Patient, view: View, grade: int
) -> None:
    """Add the lesions of the grade to a retina, in place."""
    if grade == 0:
        return
    lesions = draw_lesions(rng, view, person.anatomy, grade)
    _blend(picture, 0.6 * lesions.cotton, _COTTON)
    _absorb(picture, lesions.blood, _CLOTTED)
    _blend(picture, 0.9 * lesions.exudate, _EXUDATE)


def _illumination(rng: np.random.Generator, view: View) -> Plane:
    """Return the brightness of the flash, (size, size): uneven and not centred."""
    x, y = view.field()
    hot = rng.uniform(-0.35, 0.35, 2)
    lamp = 1.12 / (1 + np.float32(rng.uniform(0.15, 1.0)) * _squared_distance(x, y, hot))
    slope = rng.uniform(-0.25, 0.25, 2).astype(np.float32)
    return np.asarray(lamp * (1 + slope[0] * x + slope[1] * y))


def _add_stray_light(
    rng: np.random.Generator, picture: Picture, person: Patient, view: View
) -> None:
    """Add light that does not come from the retina: veil, rim, reflex and leak, in place."""
    x, y = view.field()
    picture += np.float32(person.veil) * (np.array(_VEIL, np.float32) - picture)
    rim = np.clip((_squared_distance(x, y, np.zeros(2)) - 0.45) / 0.55, 0, 1)
    picture += (0.3 * person.haze * rim * rim)[..., None] * np.array([0.5, 0.8, 1.0], np.float32)
    reflex, leak = rng.random(2)
    spot = _bell(_squared_distance(x, y, rng.uniform(-0.3, 0.3, 2)), 0.16)
    if reflex < 0.15:
        picture += (0.22 * spot)[..., None] * np.array([0.7, 0.85, 1.0], np.float32)
    edge = np.clip((y - np.float32(rng.uniform(0.62, 0.8))) / np.float32(0.22), 0, 1)
    if leak < 0.1:
        picture += (0.6 * edge * edge)[..., None] * np.array([1.0, 0.75, 0.4], np.float32)


def _dust(rng: np.random.Generator, person: Patient, view: View) -> Plane:
    """Return the coverage of dust in the camera, (size, size): the same places in both eyes."""
    camera = replace(view, mirror=1, tilt=(1.0, 0.0), gaze=(0.0, 0.0))
    specks = blobs(rng, camera, person.dust, (0.014, 0.03), 0.2)
    return Stencil(camera).fill(specks, rng.uniform(0.3, 0.9, len(specks))).coverage(0.012)


def _expose(
    rng: np.random.Generator, picture: Picture, person: Patient, view: View
) -> NDArray[np.uint8]:
    """Blur, add noise, mask the field of view and round to bytes, (size, size, 3)."""
    sharp = Image.fromarray(np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    blurred = sharp.filter(ImageFilter.GaussianBlur(person.blur * view.size / 96))
    # The difference of two uniform numbers is nearly normal, and needs no transcendental function.
    grain = rng.random((2, *picture.shape), dtype=np.float32)
    noisy = np.asarray(blurred) + np.float32(2 * person.noise) * (grain[0] - grain[1])
    x, y = view.field()
    hard = np.float32(1.5 / view.radius)
    window = _inside(_squared_distance(x, y, np.zeros(2)), 1.0, hard)
    window *= np.clip((np.float32(person.cut) - np.abs(y)) / hard, 0, 1)
    return np.asarray(np.rint(np.clip(noisy * window[..., None], 0, 255)), dtype=np.uint8)


def _squared_distance(x: Plane, y: Plane, point: Floats) -> Plane:
    """Return the squared distance of every pixel from a point (2,), (size, size)."""
    across, down = point.astype(np.float32)
    return np.asarray((x - across) ** 2 + (y - down) ** 2)


def _bell(squared: Plane, radius: float) -> Plane:
    """Return a bell curve: 1 at the centre and 1/4 at the radius, (size, size)."""
    return np.asarray(1 / (1 + squared / np.float32(radius * radius)) ** 2)


def _inside(squared: Plane, radius: float, soft: float | np.float32) -> Plane:
    """Return 1 inside a circle and 0 outside, with an edge `soft` wide, (size, size)."""
    ramp = (np.float32(radius) - np.sqrt(squared)) / np.float32(soft) + np.float32(0.5)
    return np.asarray(np.clip(ramp, 0, 1))


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Plane:
    """Return smooth noise of (cells, cells) random values, (size, size), -1 to 1."""
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    smooth = coarse.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32) / np.float32(127.5) - 1


def _absorb(picture: Picture, coverage: Plane, colour: Colour) -> None:
    """Remove the fractions `colour` of the light where the coverage is 1, in place."""
    picture *= 1 - coverage[..., None] * np.array(colour, np.float32)


def _blend(picture: Picture, coverage: Plane, colour: Colour) -> None:
    """Blend a colour into the picture with the weight `coverage`, in place."""
    picture += coverage[..., None] * (np.array(colour, np.float32) - picture)
