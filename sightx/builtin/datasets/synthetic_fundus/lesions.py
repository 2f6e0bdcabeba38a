"""The lesions of diabetic retinopathy in a synthetic retina."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .anatomy import Anatomy, Floats, Plane, Range, Stencil, Tree, View, blobs, grow

_CORNERS = 12  # of the outline of a pre-retinal haemorrhage


class _Burden(NamedTuple):
    """The number of lesions of each kind in a grade, at its mildest and at its worst."""

    microaneurysms: Range = (0, 0)
    dots: Range = (0, 0)
    blots: Range = (0, 0)
    exudates: Range = (0, 0)
    cotton_wool: Range = (0, 0)
    beads: Range = (0, 0)
    tangles: Range = (0, 0)
    preretinal: Range = (0, 0)


# Neighbouring grades overlap, so that they are hard to distinguish. A range that begins below zero
# is for lesions that not every eye of the grade has.
_BURDENS = (
    _Burden(),
    _Burden(microaneurysms=(1, 7)),
    _Burden(microaneurysms=(3, 18), dots=(0, 10), blots=(-1, 2), exudates=(-8, 22)),
    _Burden((10, 30), (10, 34), (0, 9), (-8, 34), (-1, 4), (0, 14)),
    _Burden((5, 28), (3, 30), (-1, 8), (-8, 28), (-1, 3), (-4, 12), (2, 6), (-1, 1.8)),
)


class Lesions(NamedTuple):
    """The coverage of lesions, (size, size) each, 0 to 1."""

    blood: Plane
    exudate: Plane
    cotton: Plane


def draw_lesions(rng: np.random.Generator, view: View, anatomy: Anatomy, grade: int) -> Lesions:
    """Draw the lesions of one eye; its severity within the grade varies continuously."""
    disc, _, macula, tree = anatomy
    severity, contrast = rng.random(), np.float32(rng.uniform(0.45, 1.0))
    microaneurysms, dots, blots, hard, soft, beads, tangles, preretinal = (
        _count(rng, span, severity) for span in _BURDENS[grade]
    )
    blood, exudate, cotton = Stencil(view), Stencil(view), Stencil(view)
    for n, radii, rough, level in (
        (microaneurysms, (0.013, 0.020), 0.1, 0.9),
        (dots, (0.018, 0.032), 0.25, 0.85),
        (blots, (0.034, 0.068), 0.45, 0.85),
    ):
        outlines = blobs(rng, view, _scatter(rng, n, disc), radii, rough)
        blood.fill(outlines, level * rng.uniform(0.75, 1.0, n))
    blood.fill(blobs(rng, view, _beads(rng, beads, tree), (0.014, 0.021), 0.2), 0.7)
    blood.fill(_tangles(rng, tangles, tree, disc), 0.9)
    blood.fill(_preretinal(rng, preretinal, macula), 0.9)
    clusters = _clusters(rng, hard, macula)
    exudate.fill(blobs(rng, view, clusters, (0.010, 0.026), 0.4), 0.9)
    spots = _scatter(rng, soft, disc)
    cotton.fill(blobs(rng, view, spots, (0.045, 0.075), 0.35), 0.6)
    return Lesions(contrast * blood.coverage(0.006), exudate.coverage(0.004), cotton.coverage(0.02))


def _count(rng: np.random.Generator, span: Range, severity: float) -> int:
    """Return a number of lesions that depends mostly on the severity."""
    share = 0.7 * severity + 0.3 * rng.random()
    return max(0, round(span[0] + (span[1] - span[0]) * share))


def _scatter(rng: np.random.Generator, n: int, disc: Floats) -> Floats:
    """Return n points, (n, 2), in the part that every camera shows, outside the optic disc."""
    angle, radius = rng.uniform(0, 2 * np.pi, 3 * n), 0.88 * np.sqrt(rng.random(3 * n))
    points = np.stack([radius * np.cos(angle), 0.78 * radius * np.sin(angle)], axis=-1)
    is_outside = ((points - disc) ** 2).sum(axis=1) > 0.2**2
    return np.asarray(points[np.argsort(~is_outside, kind="stable")][:n])


def _clusters(rng: np.random.Generator, n: int, macula: Floats) -> Floats:
    """Return n points, (n, 2), in a few clusters around the macula."""
    angle = rng.uniform(0, 2 * np.pi, 3)
    radius = rng.uniform(0.12, 0.45, 3)
    centres = macula + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    spread = rng.uniform(-0.1, 0.1, (n, 2)) + rng.uniform(-0.08, 0.08, (n, 2))
    return np.asarray(centres[rng.integers(0, 3, n)] + spread)


def _beads(rng: np.random.Generator, n: int, tree: Tree) -> Floats:
    """Return n points, (n, 2), along the great veins, for venous beading."""
    points = tree.veins[0].points[:4, 6:-4:2].reshape(-1, 2)
    return np.asarray(points[rng.permutation(len(points))[:n]])


def _tangles(rng: np.random.Generator, n: int, tree: Tree, disc: Floats) -> Floats:
    """Return the outlines of new vessels, (12n, corners, 2): at the disc or along the arcades."""
    arcades = tree.veins[0].points[:2, 5:15].reshape(-1, 2)
    centres = arcades[rng.integers(0, len(arcades), n)]
    centres = np.where(rng.random((n, 1)) < 0.45, disc, centres)
    start = np.repeat(centres, 12, axis=0) + rng.uniform(-0.06, 0.06, (12 * n, 2))
    heading, bend = rng.uniform(-np.pi, np.pi, 12 * n), rng.uniform(-5.0, 5.0, 12 * n)
    length = rng.uniform(0.15, 0.45, 12 * n)
    width = np.full(12 * n, 0.012)
    return grow(rng, start, heading, bend, length, width, steps=14, wander=0.9).ribbons()


def _preretinal(rng: np.random.Generator, n: int, macula: Floats) -> Floats:
    """Return the outlines of pre-retinal haemorrhages, (n, corners, 2): half discs, flat on top."""
    angle = np.linspace(0, np.pi, _CORNERS)
    half_disc = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    extent = np.stack([rng.uniform(0.16, 0.34, n), rng.uniform(0.1, 0.24, n)], axis=-1)
    offset = np.stack([rng.uniform(-0.5, 0.3, n), rng.uniform(0.1, 0.35, n)], axis=-1)
    return np.asarray((macula + offset)[:, None] + extent[:, None] * half_disc)
