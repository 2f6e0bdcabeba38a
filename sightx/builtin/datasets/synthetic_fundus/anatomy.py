"""The geometry of a synthetic retina: where the camera points, and where vessels run.

Retina coordinates have their origin at the centre of the field of view, the radius of that field
as unit, x towards the temple and y downwards. Both eyes have the same ones: `View` mirrors them.

Shapes are rounded to whole pixels of an enlarged stencil, and pixels are computed only with
operations that IEEE 754 defines exactly (no `exp`, no matrix product). Every machine with the same
NumPy and Pillow therefore gets the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats: TypeAlias = NDArray[np.float64]
Plane: TypeAlias = NDArray[np.float32]
Range: TypeAlias = tuple[float, float]

_ENLARGE = 4  # stencil pixels per image pixel, for smooth edges

# heading at the optic disc and total bend, in degrees; length in radii; relative calibre
_TRUNKS = np.array(
    [
        (-72.0, 88.0, 1.75, 1.0),  # superior temporal arcade
        (72.0, -88.0, 1.75, 1.0),  # inferior temporal arcade
        (-122.0, -25.0, 0.95, 0.7),  # superior nasal
        (122.0, 25.0, 0.95, 0.7),  # inferior nasal
        (-95.0, 20.0, 0.90, 0.5),
        (95.0, -20.0, 0.90, 0.5),
        (-22.0, 18.0, 0.50, 0.35),  # towards the macula
        (22.0, -18.0, 0.50, 0.35),
        (172.0, 8.0, 0.70, 0.35),
    ]
)
_VEIN, _ARTERY = 1.0, 0.66  # strength of the colour of blood
_FADE = 0.8  # each generation of branches is fainter than the one before it
_VEIN_WIDTH, _ARTERY_WIDTH = 0.034, 0.022
_STEPS = 24
_CORNERS = 12  # of an outline
_MIN_RADIUS = 0.62  # pixels; a smaller blob would be invisible


def stream(*key: int | str) -> np.random.Generator:
    """Return the random generator of a key, the same on every machine."""
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


@dataclass(frozen=True)
class View:
    """How the retina is projected onto the picture of one eye.

    `centre` and `radius` of the field of view are in pixels; `mirror` is 1 if the temple is on the
    right (a left eye) and -1 if it is on the left; `tilt` is a unit vector (cosine, sine); `gaze`
    shifts the retina, in radii.
    """

    size: int
    centre: tuple[float, float]
    radius: float
    mirror: int
    tilt: tuple[float, float]
    gaze: tuple[float, float]

    def field(self) -> tuple[Plane, Plane]:
        """Return x and y of every pixel in camera coordinates, (size, size), radii."""
        line = np.arange(self.size, dtype=np.float32) + np.float32(0.5)
        x = (line - self.centre[0]) / np.float32(self.radius)
        y = (line - self.centre[1]) / np.float32(self.radius)
        return np.broadcast_to(x, (self.size,) * 2), np.broadcast_to(y[:, None], (self.size,) * 2)

    def retina(self) -> tuple[Plane, Plane]:
        """Return x and y of every pixel in retina coordinates, (size, size), radii."""
        x, y = self.field()
        x = x * np.float32(self.mirror)
        cosine, sine = map(np.float32, self.tilt)
        gaze_x, gaze_y = map(np.float32, self.gaze)
        return cosine * x + sine * y - gaze_x, cosine * y - sine * x - gaze_y

    def pixels(self, points: Floats) -> Floats:
        """Return the pixel coordinates, (..., 2), of retina coordinates, (..., 2)."""
        x, y = points[..., 0] + self.gaze[0], points[..., 1] + self.gaze[1]
        cosine, sine = self.tilt
        across = self.centre[0] + self.mirror * self.radius * (cosine * x - sine * y)
        down = self.centre[1] + self.radius * (sine * x + cosine * y)
        return np.stack([across, down], axis=-1)


class Stencil:
    """Filled shapes at a higher resolution, for coverage with smooth edges."""

    def __init__(self, view: View) -> None:
        """Make an empty stencil for a view."""
        self.view = view
        self._image = Image.new("L", (view.size * _ENLARGE,) * 2)
        self._draw = ImageDraw.Draw(self._image)

    def fill(self, shapes: Floats, level: float | Floats) -> Self:
        """Fill polygons, (n, corners, 2) in retina coordinates, with one or n levels, 0 to 1."""
        corners = np.rint(self.view.pixels(shapes) * _ENLARGE).astype(np.int64)
        inks = np.rint(np.broadcast_to(level, len(shapes)) * 255).astype(np.int64).tolist()
        for polygon, ink in zip(corners, inks, strict=True):
            self._draw.polygon(polygon.ravel().tolist(), fill=ink)
        return self

    def coverage(self, soft: float = 0.0) -> Plane:
        """Return the filled fraction of each pixel, (size, size); `soft` is a blur in radii."""
        small = self._image.reduce(_ENLARGE)
        if soft:
            small = small.filter(ImageFilter.GaussianBlur(soft * self.view.radius))
        return np.asarray(small, dtype=np.float32) / np.float32(255)


class Vessels(NamedTuple):
    """n vessels, sampled at k points: points (n, k, 2), headings and widths (n, k)."""

    points: Floats
    angles: Floats
    widths: Floats

    def ribbons(self) -> Floats:
        """Return the outlines as polygons, (n, 2k, 2)."""
        normal = np.stack([-np.sin(self.angles), np.cos(self.angles)], axis=-1)
        edge = normal * self.widths[..., None] / 2
        return np.concatenate([self.points + edge, (self.points - edge)[:, ::-1]], axis=1)


class Tree(NamedTuple):
    """The vessels of one patient: trunks, branches, and their branches."""

    veins: tuple[Vessels, ...]
    arteries: tuple[Vessels, ...]

    def coverage(self, view: View) -> Plane:
        """Return the strength of blood in each pixel, (size, size), 0 to 1; veins are on top."""
        stencil = Stencil(view)
        for vessels, level in ((self.arteries, _ARTERY), (self.veins, _VEIN)):
            for order, generation in reversed(list(enumerate(vessels))):
                stencil.fill(generation.ribbons(), level * _FADE**order)
        return stencil.coverage()


class Anatomy(NamedTuple):
    """The parts of a patient's retina; points are (2,)."""

    disc: Floats
    disc_radius: float
    macula: Floats
    tree: Tree


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw the anatomy that both eyes of a patient share."""
    disc = np.array([rng.uniform(-0.5, -0.4), rng.uniform(-0.05, 0.02)])
    macula = disc + np.array([rng.uniform(0.64, 0.74), rng.uniform(0.03, 0.1)])
    veins = _vessel_tree(rng, disc, _VEIN_WIDTH, 6.0)
    arteries = _vessel_tree(rng, disc, _ARTERY_WIDTH, -6.0)
    return Anatomy(disc, rng.uniform(0.12, 0.15), macula, Tree(veins, arteries))


def grow(
    rng: np.random.Generator,
    start: Floats,
    heading: Floats,
    bend: Floats,
    length: Floats,
    width: Floats,
    *,
    steps: int,
    wander: float,
) -> Vessels:
    """Grow n tapering vessels from `start`, (n, 2); angles are in radians, lengths in radii.

    Most of the bend is at the beginning, as in the arcades; `wander` limits the random turn per
    step.
    """
    t = np.linspace(0.0, 1.0, steps + 1)
    drift = rng.uniform(-wander, wander, (len(start), steps + 1)).cumsum(axis=1)
    # Half of the final drift is subtracted, so that vessels meander but keep their direction.
    drift -= 0.5 * t * drift[:, -1:]
    phase, waves = rng.uniform(0, 2 * np.pi, (2, len(start), 1))
    drift += 1.6 * wander * np.sin(phase + (4 + 2 * waves) * t)
    angles = heading[:, None] + bend[:, None] * t * (2 - t) + drift
    stride = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * (length / steps)[:, None, None]
    points = start[:, None] + stride.cumsum(axis=1) - stride[:, :1]
    return Vessels(points, angles, width[:, None] * (1 - 0.65 * t))


def blobs(
    rng: np.random.Generator, view: View, centres: Floats, radii: Range, rough: float
) -> Floats:
    """Return irregular round outlines, (n, corners, 2), large enough to be visible."""
    n = len(centres)
    angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    radius = np.maximum(rng.uniform(*radii, n), _MIN_RADIUS / view.radius)
    edge = radius[:, None] * rng.uniform(1 - rough, 1 + rough, (n, _CORNERS))
    squeeze = 1 + rough * rng.uniform(-0.8, 0.8, (n, 1, 1)) * np.array([1.0, -1.0])
    return np.asarray(centres[:, None] + edge[..., None] * circle * squeeze)


def _vessel_tree(
    rng: np.random.Generator, disc: Floats, width: float, offset: float
) -> tuple[Vessels, ...]:
    """Grow trunks and two generations of branches, turned outwards by `offset` degrees."""
    n = len(_TRUNKS)
    heading, bend, length, calibre = _TRUNKS.T
    outward = np.sign(heading)
    heading = np.radians(heading + outward * offset + rng.uniform(-9.0, 9.0, n))
    bend = np.radians(bend * rng.uniform(0.8, 1.1, n))
    radial = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    start = disc + (0.09 * (1 - calibre))[:, None] * radial + rng.uniform(-0.02, 0.02, (n, 2))
    trunks = grow(
        rng, start, heading, bend, length, width * calibre**0.5, steps=_STEPS, wander=0.13
    )
    branches = _branches(rng, trunks, 18, 0.5)
    return trunks, branches, _branches(rng, branches, 16, 0.3)


def _branches(rng: np.random.Generator, parents: Vessels, n: int, reach: float) -> Vessels:
    """Grow n branches from random points of the parents, to the left or the right."""
    rows, columns = parents.angles.shape
    at = rng.integers(0, rows, n), rng.integers(columns // 4, columns - 2, n)
    sign = rng.choice(np.array([-1.0, 1.0]), n)
    heading = parents.angles[at] + sign * rng.uniform(0.45, 1.0, n)
    return grow(
        rng,
        parents.points[at],
        heading,
        -sign * rng.uniform(0.0, 0.7, n),
        reach * rng.uniform(0.5, 1.2, n),
        np.maximum(0.6 * parents.widths[at], 0.006),
        steps=_STEPS // 2,
        wander=0.16,
    )
