"""Draw the lesions of diabetic retinopathy onto a synthetic retina."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .fundus_anatomy import Anatomy, Floats, Plane, Range, Stencil, Tree, View, blobs, grow

_CORNERS = 12  # of the waterline and hull of a pre-retinal haemorrhage


class _Burden(NamedTuple):
    """Say how many lesions of each sort a grade has, at its mildest and at its worst."""

    microaneurysms: Range = (0, 0)
    dots: Range = (0, 0)
    blots: Range = (0, 0)
    exudates: Range = (0, 0)
    cotton_wool: Range = (0, 0)
    beads: Range = (0, 0)
    tangles: Range = (0, 0)
    preretinal: Range = (0, 0)


# A grade begins below the end of the one before it, so neighbours are hard to tell apart; a span
# that begins below zero is of lesions which not every eye of the grade has.
_BURDENS = (
    _Burden(),
    _Burden(microaneurysms=(1, 7)),
    _Burden(microaneurysms=(3, 18), dots=(0, 10), blots=(-1, 2), exudates=(-8, 22)),
    _Burden((10, 30), (10, 34), (0, 9), (-8, 34), (-1, 4), (0, 14)),
    _Burden((5, 28), (3, 30), (-1, 8), (-8, 28), (-1, 3), (-4, 12), (2, 6), (-1, 1.8)),
)


class Lesions(NamedTuple):
    """Hold what lesions cover, (size, size) each, 0 to 1."""

    blood: Plane
    exudate: Plane
    cotton: Plane


def lesions(rng: np.random.Generator, view: View, anatomy: Anatomy, grade: int) -> Lesions:
    """Draw the lesions of one eye; its severity within the grade varies continuously."""
    disc, _, macula, tree = anatomy
    severity, contrast = rng.random(), np.float32(rng.uniform(0.45, 1.0))
    spots, dots, blots, hard, soft, beads, tangles, boats = (
        _count(rng, span, severity) for span in _BURDENS[grade]
    )
    blood, exudate, cotton = Stencil(view), Stencil(view), Stencil(view)
    for n, radii, rough, level in (
        (spots, (0.013, 0.020), 0.1, 0.9),
        (dots, (0.018, 0.032), 0.25, 0.85),
        (blots, (0.034, 0.068), 0.45, 0.85),
    ):
        outlines = blobs(rng, view, _scatter(rng, n, disc), radii, rough)
        blood.fill(outlines, level * rng.uniform(0.75, 1.0, n))
    blood.fill(blobs(rng, view, _beads(rng, beads, tree), (0.014, 0.021), 0.2), 0.7)
    blood.fill(_tangles(rng, tangles, tree, disc), 0.9)
    blood.fill(_boats(rng, boats, macula), 0.9)
    clusters = _clusters(rng, hard, macula)
    exudate.fill(blobs(rng, view, clusters, (0.010, 0.026), 0.4), 0.9)
    wool = _scatter(rng, soft, disc)
    cotton.fill(blobs(rng, view, wool, (0.045, 0.075), 0.35), 0.6)
    return Lesions(contrast * blood.coverage(0.006), exudate.coverage(0.004), cotton.coverage(0.02))


def _count(rng: np.random.Generator, span: Range, severity: float) -> int:
    """Return a number of lesions that mostly, not only, follows the severity."""
    share = 0.7 * severity + 0.3 * rng.random()
    return max(0, round(span[0] + (span[1] - span[0]) * share))


def _scatter(rng: np.random.Generator, n: int, disc: Floats) -> Floats:
    """Return n places, (n, 2), all over the part that every camera shows, off the optic disc."""
    turn, reach = rng.uniform(0, 2 * np.pi, 3 * n), 0.88 * np.sqrt(rng.random(3 * n))
    places = np.stack([reach * np.cos(turn), 0.78 * reach * np.sin(turn)], axis=-1)
    away = ((places - disc) ** 2).sum(axis=1) > 0.2**2
    return np.asarray(places[np.argsort(~away, kind="stable")][:n])


def _clusters(rng: np.random.Generator, n: int, macula: Floats) -> Floats:
    """Return n places, (n, 2), in a few clusters around the macula."""
    turn = rng.uniform(0, 2 * np.pi, 3)
    reach = rng.uniform(0.12, 0.45, 3)
    hubs = macula + reach[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    spread = rng.uniform(-0.1, 0.1, (n, 2)) + rng.uniform(-0.08, 0.08, (n, 2))
    return np.asarray(hubs[rng.integers(0, 3, n)] + spread)


def _beads(rng: np.random.Generator, n: int, tree: Tree) -> Floats:
    """Return n places, (n, 2), along the great veins, where they bulge like a rosary."""
    points = tree.veins[0].points[:4, 6:-4:2].reshape(-1, 2)
    return np.asarray(points[rng.permutation(len(points))[:n]])


def _tangles(rng: np.random.Generator, n: int, tree: Tree, disc: Floats) -> Floats:
    """Return the outlines of new vessels, (12n, corners, 2): at the disc or along the arcades."""
    arcades = tree.veins[0].points[:2, 5:15].reshape(-1, 2)
    hubs = arcades[rng.integers(0, len(arcades), n)]
    hubs = np.where(rng.random((n, 1)) < 0.45, disc, hubs)
    start = np.repeat(hubs, 12, axis=0) + rng.uniform(-0.06, 0.06, (12 * n, 2))
    heading, bend = rng.uniform(-np.pi, np.pi, 12 * n), rng.uniform(-5.0, 5.0, 12 * n)
    length = rng.uniform(0.15, 0.45, 12 * n)
    width = np.full(12 * n, 0.012)
    return grow(rng, start, heading, bend, length, width, steps=14, wander=0.9).ribbons()


def _boats(rng: np.random.Generator, n: int, macula: Floats) -> Floats:
    """Return pre-retinal haemorrhages, (n, corners, 2): blood that sank, with a level surface."""
    turn = np.linspace(0, np.pi, _CORNERS)
    hull = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    extent = np.stack([rng.uniform(0.16, 0.34, n), rng.uniform(0.1, 0.24, n)], axis=-1)
    side = np.stack([rng.uniform(-0.5, 0.3, n), rng.uniform(0.1, 0.35, n)], axis=-1)
    return np.asarray((macula + side)[:, None] + extent[:, None] * hull)
